//! Walking paths one component at a time, by descriptors, so that no link leads anywhere unexpected.

use std::{
    collections::VecDeque,
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Component, Path},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat, readlinkat},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
};

const MOST_LINKS: usize = 40;
const FOLDER: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Opens the folder at an absolute path. Links on the way are followed only when root made them: an image's own
/// `/var/run -> /run` is fine, a link that the workload planted to make us write elsewhere is not.
pub(crate) fn open_folder(path: &Path, create: bool) -> nix::Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(Errno::EINVAL);
    }
    let root = || open("/", FOLDER, Mode::empty());
    let mut links = 0;
    let mut folder = root()?;
    let mut rest: VecDeque<OsString> = names(path)?;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            folder = openat(&folder, "..", FOLDER, Mode::empty())?;
            continue;
        }
        let found = openat(
            &folder,
            name.as_os_str(),
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let found = match found {
            Err(Errno::ENOENT) if create => {
                make_folder(&folder, &name)?;
                continue_into(&folder, &name)?
            }
            other => other?,
        };
        let stat = fstat(&found)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFLNK {
            folder = continue_into(&folder, &name)?;
            continue;
        }
        links += 1;
        if stat.st_uid != 0 || links > MOST_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = readlinkat(&found, "")?;
        let target = Path::new(&target);
        if target.is_absolute() {
            folder = root()?;
        }
        for name in names(target)?.into_iter().rev() {
            rest.push_front(name);
        }
    }
    Ok(folder)
}

/// Opens a folder beneath another, following nothing at all.
pub(crate) fn open_beneath(root: &OwnedFd, path: &Path, create: bool) -> nix::Result<OwnedFd> {
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for name in names(path)? {
        if name == ".." {
            return Err(Errno::EXDEV);
        }
        folder = match continue_into(&folder, &name) {
            Err(Errno::ENOENT) if create => {
                make_folder(&folder, &name)?;
                continue_into(&folder, &name)?
            }
            other => other?,
        };
    }
    Ok(folder)
}

fn continue_into(folder: &OwnedFd, name: &OsString) -> nix::Result<OwnedFd> {
    openat(folder, name.as_os_str(), FOLDER, Mode::empty())
}

fn make_folder(folder: &OwnedFd, name: &OsString) -> nix::Result<()> {
    match mkdirat(folder, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

fn names(path: &Path) -> nix::Result<VecDeque<OsString>> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir => Some(Ok(OsString::from(".."))),
            Component::Normal(name) => Some(Ok(name.to_owned())),
            Component::Prefix(_) => Some(Err(Errno::EINVAL)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_of_the_workload_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        let link = folder.path().join("link");
        if nix::unistd::geteuid().is_root() {
            assert!(open_folder(&link, false).is_ok());
            let nobody = Some(nix::unistd::Uid::from_raw(65_534));
            nix::unistd::fchownat(
                nix::fcntl::AT_FDCWD,
                &link,
                nobody,
                None,
                nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .unwrap();
        }
        assert_eq!(open_folder(&link, false).unwrap_err(), Errno::ELOOP);
        let root = open_folder(folder.path(), false).unwrap();
        assert!(open_beneath(&root, Path::new("link"), true).is_err());
        assert!(open_beneath(&root, Path::new("real/new"), true).is_ok());
        assert_eq!(
            open_beneath(&root, Path::new("../x"), true).unwrap_err(),
            Errno::EXDEV
        );
    }
}
