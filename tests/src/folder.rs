//! Folders of installations and stages under test.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A folder that the database's own user can enter, removed when it is dropped.
///
/// # Errors
/// It cannot be made.
pub(crate) fn open(prefix: &str) -> std::io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp")?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A folder that is removed with this process at the latest. Tests share stages in statics, which are never dropped.
#[derive(Debug)]
pub(crate) struct Passing {
    folder: TempDir,
    /// Waits for the end of its input, which is this process's end or [`Drop`].
    sweeper: Child,
}

impl Passing {
    /// Makes one.
    ///
    /// # Errors
    /// It cannot be made, or there is no shell.
    pub(crate) fn open(prefix: &str) -> std::io::Result<Self> {
        let folder = open(prefix)?;
        let mut sweeper = Command::new("setsid");
        sweeper.args(["sh", "-c", SWEEP, "sh"]).arg(folder.path());
        let sweeper = sweeper.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        Ok(Self { folder, sweeper })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        drop(self.sweeper.wait());
    }
}

/// The stage's processes die at the same time, and may still write: hence several tries.
const SWEEP: &str =
    r#"cat >/dev/null; for try in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$1" && exit; sleep 0.2; done"#;
