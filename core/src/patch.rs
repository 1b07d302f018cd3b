//! What is checked of a patch agent's diff before git applies it in a fresh sandbox.
//!
//! Names are read as git reads them. This is the first wall, with a reason that can be told; git's own checks stay on.

use std::borrow::Cow;

/// A diff that is longer is refused.
pub const MAX_BYTES: usize = 16 << 20;

/// Why a diff is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPatch {
    /// Nothing is in it: the agent left no diff.
    #[error("the diff is empty")]
    Empty,
    /// It is longer than [`MAX_BYTES`].
    #[error("the diff has {0} bytes, more than 16 MiB")]
    TooBig(usize),
    /// It is no text.
    #[error("the diff is no UTF-8 text")]
    NotText,
    /// No file is changed.
    #[error("this is no unified diff: it names no file")]
    NoFile,
    /// It changes a file that is no text.
    #[error("line {line}: binary changes are not taken")]
    Binary {
        /// Where.
        line: usize,
    },
    /// It changes git's own files.
    #[error("line {line}: {path:?} belongs to git")]
    TouchesGit {
        /// Where.
        line: usize,
        /// The name.
        path: String,
    },
    /// It leaves the tree.
    #[error("line {line}: {path:?} leaves the tree")]
    LeavesTree {
        /// Where.
        line: usize,
        /// The name.
        path: String,
    },
    /// It makes a symbolic link or a submodule.
    #[error("line {line}: {kind} are not made by a diff")]
    Kind {
        /// Where.
        line: usize,
        /// What it makes.
        kind: &'static str,
    },
}

/// Checks a diff. The text comes back with a newline at its end, which git needs.
pub fn check(diff: &[u8]) -> Result<Cow<'_, str>, InvalidPatch> {
    if diff.len() > MAX_BYTES {
        return Err(InvalidPatch::TooBig(diff.len()));
    }
    let text = std::str::from_utf8(diff).map_err(|_| InvalidPatch::NotText)?;
    if text.trim().is_empty() {
        return Err(InvalidPatch::Empty);
    }
    if text.contains('\0') {
        return Err(InvalidPatch::NotText);
    }
    let mut hunk = Hunk::default();
    let mut names = 0_u32;
    for (index, line) in text.lines().enumerate() {
        if hunk.takes(line) {
            continue;
        }
        names += u32::from(header(line, index + 1)?);
        hunk.begin(line);
    }
    if names == 0 {
        return Err(InvalidPatch::NoFile);
    }
    Ok(if text.ends_with('\n') {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{text}\n"))
    })
}

/// Lines of a hunk that are still to come: what stands in them is content, never a header.
#[derive(Default)]
struct Hunk {
    old: u64,
    new: u64,
}

impl Hunk {
    /// Reads `@@ -1,2 +3,4 @@`.
    fn begin(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("@@ -") else {
            return;
        };
        let count = |range: &str| match range.split_once(',') {
            Some((_, count)) => count.parse().unwrap_or(0),
            None => 1,
        };
        let mut ranges = rest.split(' ');
        let (old, new) = (ranges.next().unwrap_or(""), ranges.next().unwrap_or(""));
        (self.old, self.new) = (count(old), count(new.trim_start_matches('+')));
    }

    fn takes(&mut self, line: &str) -> bool {
        if self.old == 0 && self.new == 0 {
            return line.starts_with("\\ ");
        }
        match line.bytes().next() {
            Some(b'+') => self.new = self.new.saturating_sub(1),
            Some(b'-') => self.old = self.old.saturating_sub(1),
            Some(b' ') | None => {
                self.old = self.old.saturating_sub(1);
                self.new = self.new.saturating_sub(1);
            }
            Some(b'\\') => {}
            // A hunk that ends too early: what follows is looked at as a header.
            Some(_) => {
                *self = Self::default();
                return false;
            }
        }
        true
    }
}

/// Checks a line outside of hunks; true when it names a file.
fn header(line: &str, number: usize) -> Result<bool, InvalidPatch> {
    if line == "GIT binary patch" || (line.starts_with("Binary files ") && line.ends_with(" differ")) {
        return Err(InvalidPatch::Binary { line: number });
    }
    for prefix in ["new file mode ", "new mode ", "old mode ", "deleted file mode "] {
        if let Some(mode) = line.strip_prefix(prefix) {
            check_mode(mode, number)?;
        }
    }
    if let Some(mode) = line.strip_prefix("index ").and_then(|rest| rest.rsplit_once(' ')) {
        check_mode(mode.1, number)?;
    }
    for prefix in ["rename from ", "rename to ", "copy from ", "copy to "] {
        if let Some(path) = line.strip_prefix(prefix) {
            check_path(&unquoted(path), number)?;
            return Ok(true);
        }
    }
    if let Some(names) = line.strip_prefix("diff --git ") {
        for path in both(names) {
            check_path(without_prefix(&path), number)?;
        }
        return Ok(true);
    }
    for prefix in ["--- ", "+++ "] {
        if let Some(path) = line.strip_prefix(prefix) {
            let path = unquoted(path.split('\t').next().unwrap_or(path));
            if path != "/dev/null" {
                check_path(without_prefix(&path), number)?;
            }
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_mode(mode: &str, line: usize) -> Result<(), InvalidPatch> {
    match mode.trim() {
        "120000" => Err(InvalidPatch::Kind {
            line,
            kind: "symbolic links",
        }),
        "160000" => Err(InvalidPatch::Kind {
            line,
            kind: "submodules",
        }),
        _ => Ok(()),
    }
}

fn check_path(path: &str, line: usize) -> Result<(), InvalidPatch> {
    let path = path.trim_end_matches(['\r', '\n']);
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(InvalidPatch::LeavesTree {
            line,
            path: path.to_owned(),
        });
    }
    if path.split('/').any(is_git) {
        return Err(InvalidPatch::TouchesGit {
            line,
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// `.git` as any file system may take it: other case, dots and spaces at the end, the short name, ignorable characters.
fn is_git(part: &str) -> bool {
    let plain: String = part
        .chars()
        .filter(|char| !IGNORED_BY_HFS.contains(char))
        .collect::<String>()
        .to_lowercase();
    let plain = plain
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches(['.', ' ']);
    plain == ".git" || plain == "git~1"
}

/// `a/x` and `b/x` of a `diff --git` line; names with spaces cannot be told apart and are split in the middle.
fn both(names: &str) -> Vec<String> {
    if let Some(rest) = names.strip_prefix('"') {
        let end = rest.find("\" ").map_or(names.len(), |end| end + 2);
        let (first, second) = names.split_at(end);
        return vec![unquoted(first), unquoted(second.trim_start())];
    }
    if let Some(at) = names.find(" \"") {
        return vec![names[..at].to_owned(), unquoted(&names[at + 1..])];
    }
    names.split(' ').map(str::to_owned).collect()
}

/// Undoes git's quoting: `"a\\303\\244"`.
fn unquoted(path: &str) -> String {
    let Some(inner) = path.strip_prefix('"').and_then(|path| path.strip_suffix('"')) else {
        return path.to_owned();
    };
    let mut bytes = Vec::new();
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let Some(escaped) = rest.next() else { break };
        if !(b'0'..=b'7').contains(&escaped) {
            bytes.push(match escaped {
                b'n' => b'\n',
                b't' => b'\t',
                other => other,
            });
            continue;
        }
        let mut code = u32::from(escaped - b'0');
        for _ in 0..2 {
            if let Some(digit) = rest.next_if(|digit| (b'0'..=b'7').contains(digit)) {
                code = code * 8 + u32::from(digit - b'0');
            }
        }
        bytes.push(u8::try_from(code & 0xff).unwrap_or(b'?'));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Git takes one part away from each name. A bare name is left whole.
fn without_prefix(path: &str) -> &str {
    match path.split_once('/') {
        Some(("a" | "b" | "i" | "w" | "c" | "o", rest)) => rest,
        _ => path,
    }
}

/// Zero-width characters that one file system leaves out of names.
const IGNORED_BY_HFS: &[char] = &[
    '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
    '\u{202e}', '\u{206a}', '\u{206b}', '\u{206c}', '\u{206d}', '\u{206e}', '\u{206f}', '\u{feff}',
];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "diff --git a/x.py b/x.py\nindex 1..2 100644\n--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n-a\n+b\n c\n";

    #[test]
    fn an_ordinary_diff_passes_and_gets_its_last_newline() {
        assert_eq!(check(GOOD.as_bytes()).unwrap(), GOOD);
        assert_eq!(check(GOOD.trim_end().as_bytes()).unwrap(), GOOD);
        let created = "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x\n";
        assert!(check(created.as_bytes()).is_ok());
    }

    #[test]
    fn content_is_never_taken_for_a_header() {
        let diff =
            "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n--- a/../y\n+++ b/.git/config\n GIT binary patch\n c\n";
        assert!(check(diff.as_bytes()).is_ok());
    }

    #[test]
    fn whatever_leaves_the_tree_is_refused_with_its_reason() {
        let refused = |text: &str| check(text.as_bytes()).unwrap_err();
        assert_eq!(refused(" \n"), InvalidPatch::Empty);
        assert_eq!(refused("hello"), InvalidPatch::NoFile);
        assert_eq!(check(b"\xff"), Err(InvalidPatch::NotText));
        assert_eq!(
            check(&vec![b' '; MAX_BYTES + 1]),
            Err(InvalidPatch::TooBig(MAX_BYTES + 1))
        );
        for text in ["GIT binary patch", "Binary files a/x and b/x differ"] {
            assert_eq!(refused(text), InvalidPatch::Binary { line: 1 });
        }
        for path in [
            "a/.git/config",
            "a/sub/.GIT/hooks/x",
            "a/.git",
            "a/.git./x",
            "a/git~1/x",
            "a/.g\u{200c}it/x",
            "\"a/\\056git/x\"",
            ".git/config",
        ] {
            let diff = format!("--- {path}\n+++ {path}\n");
            assert!(
                matches!(refused(&diff), InvalidPatch::TouchesGit { line: 1, .. }),
                "{path}"
            );
        }
        for text in [
            "rename to .git/hooks/post-checkout",
            "diff --git a/.git/x b/.git/x",
            "copy from x/.git/y",
            "diff --git \"a/.git/x\" b/y",
        ] {
            assert!(matches!(refused(text), InvalidPatch::TouchesGit { .. }), "{text}");
        }
        for text in [
            "--- /etc/passwd",
            "+++ b/../x",
            "rename from ../x",
            "--- a/x/../../y",
            "+++ \"b/\\056./x\"",
        ] {
            assert!(matches!(refused(text), InvalidPatch::LeavesTree { .. }), "{text}");
        }
        for text in [
            "new file mode 120000",
            "new mode 120000",
            "index 1..2 120000",
            "new file mode 160000",
        ] {
            assert!(
                matches!(refused(text), InvalidPatch::Kind { line: 1, .. }),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _unused = check(&bytes);
        }

        #[test]
        fn no_text_makes_it_panic(lines in proptest::collection::vec("(diff --git |--- |\\+\\+\\+ |@@ -|\"a/)?.{0,20}", 0..12)) {
            let _unused = check(lines.join("\n").as_bytes());
        }
    }
}
