//! `.dockerignore`, which Docker's own client applies and its daemon does not.

use std::{fs, io, path::Path};

/// The rules of one context; the last one that matches decides.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
    dockerfile: String,
}

#[derive(Debug)]
struct Rule {
    /// The pattern's path, part by part.
    parts: Vec<Vec<char>>,
    exception: bool,
}

impl Ignore {
    /// The rules beside the Dockerfile; none when there is no such file. `<Dockerfile>.dockerignore` goes first.
    pub(super) fn read(context: &Path, dockerfile: &str) -> io::Result<Self> {
        for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
            match fs::read_to_string(context.join(name)) {
                Ok(text) => return Ok(Self::parse(&text, dockerfile)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str, dockerfile: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim_end();
            if line.starts_with('#') || line.trim().is_empty() {
                return None;
            }
            let line = line.trim();
            let (exception, pattern) = line
                .strip_prefix('!')
                .map_or((false, line), |pattern| (true, pattern.trim()));
            let parts: Vec<Vec<char>> = parts(pattern).map(|part| part.chars().collect()).collect();
            (!parts.is_empty()).then_some(Rule { parts, exception })
        };
        Self {
            rules: text.lines().filter_map(rule).collect(),
            dockerfile: parts(dockerfile).collect::<Vec<_>>().join("/"),
        }
    }

    /// Is this path, relative to the context, left out? The Dockerfile itself and `.dockerignore` are always sent.
    pub(super) fn excludes(&self, path: &str) -> bool {
        if path == self.dockerfile || path == ".dockerignore" {
            return false;
        }
        let path: Vec<Vec<char>> = path.split('/').map(|part| part.chars().collect()).collect();
        let last = self.rules.iter().rev().find(|rule| rule.matches(&path));
        last.is_some_and(|rule| !rule.exception)
    }

    /// Does any rule bring something back?
    pub(super) fn has_exceptions(&self) -> bool {
        !self.dockerfile.is_empty()
            && (self.dockerfile.contains('/') || self.rules.iter().any(|rule| rule.exception))
    }
}

impl Rule {
    /// A pattern that matches a folder matches everything below it.
    fn matches(&self, path: &[Vec<char>]) -> bool {
        (1..=path.len()).any(|depth| parts_match(&self.parts, &path[..depth]))
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// `**` stands for any number of parts.
fn parts_match(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first.as_slice() == ['*', '*'] => {
            (0..=path.len()).any(|skipped| parts_match(rest, &path[skipped..]))
        }
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(part, deeper)| glob(first, part) && parts_match(rest, deeper)),
    }
}

/// `*`, `?`, `[a-z]`, `[^a-z]` and `\` within one part.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    match first {
        '*' => (0..=text.len()).any(|taken| glob(rest, &text[taken..])),
        '?' => !text.is_empty() && glob(rest, &text[1..]),
        '[' => class(rest, text),
        '\\' if !rest.is_empty() => text.first() == rest.first() && glob(&rest[1..], &text[1..]),
        literal => text.first() == Some(literal) && glob(rest, &text[1..]),
    }
}

/// The rest of a pattern after `[`. A class that never closes matches nothing.
fn class(pattern: &[char], text: &[char]) -> bool {
    let (negated, pattern) = match pattern.split_first() {
        Some(('^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let (Some(end), Some((letter, deeper))) = (
        pattern.iter().position(|letter| *letter == ']'),
        text.split_first(),
    ) else {
        return false;
    };
    let (members, rest) = (&pattern[..end], &pattern[end + 1..]);
    let mut found = false;
    let mut index = 0;
    while index < members.len() {
        let is_range = index + 2 < members.len() && members[index + 1] == '-';
        let last = if is_range {
            members[index + 2]
        } else {
            members[index]
        };
        found |= (members[index]..=last).contains(letter);
        index += if is_range { 3 } else { 1 };
    }
    found != negated && glob(rest, deeper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(rules: &str, path: &str) -> bool {
        Ignore::parse(rules, "Dockerfile").excludes(path)
    }

    #[test]
    fn patterns_match_as_docker_has_them() {
        for (rules, path, expected) in [
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "b/a", false),
            ("/a/", "a", true),
            ("**/a", "b/c/a", true),
            ("**/a", "a", true),
            ("*.md", "x.md", true),
            ("*.md", "d/x.md", false),
            ("**/*.md", "d/x.md", true),
            ("*/t*", "d/temp", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("# a", "# a", false),
            ("*\n!keep", "keep", false),
            ("!keep\n*", "keep", true),
            ("*", "Dockerfile", false),
            ("d/**", "d/e/f", true),
        ] {
            assert_eq!(excluded(rules, path), expected, "{rules:?} {path}");
        }
    }
}
