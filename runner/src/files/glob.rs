//! Patterns of files that are left out: `*`, `?` and `**`.
//!
//! A pattern without `/` fits any single name on the way; one with `/` fits the whole relative path.

/// Whether `path`, relative and with `/` between names, is left out by `pattern`.
pub(crate) fn fits(pattern: &str, path: &str) -> bool {
    let pattern = pattern
        .trim_start_matches("./")
        .trim_start_matches('/')
        .trim_end_matches('/');
    if pattern.contains('/') || pattern == "**" {
        let pattern: Vec<&str> = pattern.split('/').collect();
        let path: Vec<&str> = path.split('/').collect();
        return path_fits(&pattern, &path);
    }
    path.split('/')
        .any(|name| name_fits(pattern.as_bytes(), name.as_bytes()))
}

fn path_fits(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|skip| path_fits(rest, &path[skip..])),
        Some((first, rest)) => path.split_first().is_some_and(|(name, path)| {
            name_fits(first.as_bytes(), name.as_bytes()) && path_fits(rest, path)
        }),
    }
}

/// Linear in space and without recursion: a hostile pattern costs at most pattern times name.
fn name_fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, matched)) = star else { return false };
                star = Some((at, matched + 1));
                p = at + 1;
                n = matched + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_names_and_paths() {
        for (pattern, path) in [
            ("*.pyc", "a/b/c.pyc"),
            ("node_modules", "x/node_modules/y"),
            ("a/*.txt", "a/b.txt"),
            ("a/**", "a/b/c"),
            ("**/c", "a/b/c"),
            ("?b*d", "abccd"),
            ("build/", "build"),
        ] {
            assert!(fits(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [("*.pyc", "a.py"), ("a/*.txt", "a/b/c.txt"), ("a*c", "ab")] {
            assert!(!fits(pattern, path), "{pattern} {path}");
        }
    }
}
