//! Reads the checked-out commit from a `.git` folder without git: HEAD, refs, packed refs, worktrees.
//!
//! Compiled into the build script too, so it uses the standard library alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The commit checked out in the repository that `folder` lies in.
pub fn commit(folder: &Path) -> Option<String> {
    let git = git_folder(folder)?;
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned()).filter(|commit| is_commit(commit));
    };
    let shared = shared_folder(&git);
    [&git, &shared]
        .into_iter()
        .find_map(|folder| loose(folder, reference))
        .or_else(|| packed(&shared, reference))
}

/// The file that changes when another commit is checked out, for a build to watch.
pub fn head_file(folder: &Path) -> Option<PathBuf> {
    let log = git_folder(folder)?.join("logs").join("HEAD");
    log.exists().then_some(log)
}

/// Forty (or, in a SHA-256 repository, sixty-four) lower-case hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn git_folder(folder: &Path) -> Option<PathBuf> {
    let dot_git = folder
        .ancestors()
        .map(|ancestor| ancestor.join(".git"))
        .find(|path| path.exists())?;
    if dot_git.is_dir() {
        return Some(dot_git);
    }
    // A worktree or submodule: a file that names the folder.
    let text = fs::read_to_string(&dot_git).ok()?;
    let named = PathBuf::from(text.trim().strip_prefix("gitdir: ")?);
    Some(if named.is_absolute() {
        named
    } else {
        dot_git.parent()?.join(named)
    })
}

fn shared_folder(git: &Path) -> PathBuf {
    fs::read_to_string(git.join("commondir")).map_or_else(|_| git.to_owned(), |text| git.join(text.trim()))
}

fn loose(git: &Path, reference: &str) -> Option<String> {
    let commit = fs::read_to_string(git.join(reference)).ok()?.trim().to_owned();
    is_commit(&commit).then_some(commit)
}

fn packed(git: &Path, reference: &str) -> Option<String> {
    let packed = fs::read_to_string(git.join("packed-refs")).ok()?;
    let line = packed
        .lines()
        .find(|line| line.split_once(' ').is_some_and(|(_, name)| name == reference))?;
    line.split_once(' ')
        .map(|(commit, _)| commit.to_owned())
        .filter(|commit| is_commit(commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn repository(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("assay-git-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn head_is_found_loose_packed_detached_and_in_worktrees() {
        let packed = format!("# pack-refs with: peeled\n{COMMIT} refs/heads/main\n");
        let line = format!("{COMMIT}\n");
        for (name, files) in [
            (
                "loose",
                vec![
                    (".git/HEAD", "ref: refs/heads/main\n"),
                    (".git/refs/heads/main", line.as_str()),
                ],
            ),
            (
                "packed",
                vec![
                    (".git/HEAD", "ref: refs/heads/main\n"),
                    (".git/packed-refs", packed.as_str()),
                ],
            ),
            ("detached", vec![(".git/HEAD", line.as_str())]),
            (
                "worktree",
                vec![
                    (".git", "gitdir: store/worktrees/a\n"),
                    ("store/worktrees/a/HEAD", "ref: refs/heads/a\n"),
                    ("store/worktrees/a/commondir", "../..\n"),
                    ("store/refs/heads/a", line.as_str()),
                ],
            ),
        ] {
            let root = repository(name, &files);
            assert_eq!(commit(&root).as_deref(), Some(COMMIT), "{name}");
            fs::remove_dir_all(root).unwrap();
        }
    }

    #[test]
    fn nothing_is_made_up() {
        let root = repository("unborn", &[(".git/HEAD", "ref: refs/heads/main\n")]);
        assert_eq!(commit(&root), None);
        fs::remove_dir_all(root).unwrap();
    }
}
