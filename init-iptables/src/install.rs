//! Puts the runner and the other containers' files in their places, where no engine uploads them.
//!
//! On Kubernetes the files come as a Secret that only this container mounts. What it leaves in the volumes of the others
//! is theirs alone: the proxy can read its assignment once and unlink it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use assay_core::control::init::Install;

use crate::exit::Failure;

/// Carries out all, in order.
pub fn all(wanted: &[Install]) -> Result<(), Failure> {
    wanted.iter().try_for_each(|one| {
        let (path, result) = match one {
            Install::File {
                from,
                to,
                owner,
                mode,
            } => (to, file(Path::new(from), Path::new(to), *owner, *mode)),
            Install::Folder { path, owner, mode } => (path, folder(Path::new(path), *owner, *mode)),
        };
        result.map_err(|source| Failure::Install {
            path: path.clone(),
            source,
        })
    })
}

/// Nobody reads it before it has its owner and mode.
fn file(from: &Path, to: &Path, owner: u32, mode: u32) -> io::Result<()> {
    let mut source = File::open(from)?;
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    io::copy(&mut source, &mut target)?;
    give(&target, owner, mode)
}

fn folder(path: &Path, owner: u32, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    give(&File::open(path)?, owner, mode)
}

/// The mode first: it cannot be changed any more by who has given the file away.
fn give(target: &File, owner: u32, mode: u32) -> io::Result<()> {
    target.set_permissions(Permissions::from_mode(mode))?;
    fchown(target, Some(owner), Some(owner))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_and_folders_get_their_modes_and_a_second_run_changes_nothing() {
        let home = std::env::temp_dir().join(format!("assay-install-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let at = |name: &str| home.join(name).display().to_string();
        let me = fs::metadata(&home).unwrap().uid();
        fs::write(at("from"), "text").unwrap();
        let wanted = [
            Install::File {
                from: at("from"),
                to: at("to"),
                owner: me,
                mode: 0o400,
            },
            Install::Folder {
                path: at("own"),
                owner: me,
                mode: 0o700,
            },
        ];
        for _ in 0..2 {
            all(&wanted).unwrap();
            assert_eq!(fs::read_to_string(at("to")).unwrap(), "text");
            assert_eq!(fs::metadata(at("to")).unwrap().mode() & 0o777, 0o400);
            assert_eq!(fs::metadata(at("own")).unwrap().mode() & 0o777, 0o700);
        }
        let missing = all(&[Install::File {
            from: at("nothing"),
            to: at("x"),
            owner: me,
            mode: 0o400,
        }]);
        assert!(missing.unwrap_err().to_string().contains("installing"));
        fs::remove_dir_all(&home).unwrap();
    }
}
