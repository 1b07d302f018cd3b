//! Folders of installations under test.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

/// A folder that the database's own user can enter, removed when it is dropped.
///
/// # Errors
/// It cannot be made.
pub(crate) fn open(prefix: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp")?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    Ok(folder)
}
