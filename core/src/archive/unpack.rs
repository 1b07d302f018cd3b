//! Unpacks an archive beneath a folder.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use super::{
    Caps, Entry, Error, Files,
    read::{Begun, Taker, walk},
};

/// Unpacks an archive into `directory`, which must exist and be empty. On an error it is left half full: remove it.
///
/// Files get their permission bits (never set-user-id), the owner always keeps access; owners and times are not taken.
pub fn unpack(archive: impl Read, caps: Caps, directory: &Path) -> Result<Files, Error> {
    let files = walk(archive, caps, |path, begun| {
        let full = directory.join(path);
        match begun {
            Begun::Directory => make_directory(&full).map(|()| Vec::new()),
            Begun::File { mode } => {
                if let Some(parent) = full.parent() {
                    make_directory(parent)?;
                }
                create(&full, mode).map(|file| writer(file, full))
            }
        }
    })?;
    for (path, entry) in files.entries() {
        let full = directory.join(path);
        match entry {
            Entry::Link { target } => {
                if let Some(parent) = full.parent() {
                    make_directory(parent)?;
                }
                symlink(target, &full).map_err(Error::io("link", &full))?;
            }
            Entry::Directory { mode } => {
                fs::set_permissions(&full, Permissions::from_mode(mode | 0o700))
                    .map_err(Error::io("set the mode of", &full))?;
            }
            Entry::File { .. } => {}
        }
    }
    Ok(files)
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Fails where something is already: nothing is ever written through it.
fn create(path: &Path, mode: u32) -> Result<File, Error> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    // After the creation, so that no umask takes part.
    file.set_permissions(Permissions::from_mode(mode | 0o600))
        .map_err(Error::io("set the mode of", path))?;
    Ok(file)
}

fn writer(mut file: File, path: std::path::PathBuf) -> Taker {
    vec![Box::new(move |piece| {
        file.write_all(piece).map_err(Error::io("write", &path))
    })]
}
