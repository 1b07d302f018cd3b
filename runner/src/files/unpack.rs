//! Unpacks a tar beneath a folder. The tar may come from an agent, and the folder may be full of its traps.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek as _, Write as _},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use assay_core::control::runner::Stored;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{Mode, fchmod, futimens},
        time::{TimeSpec, TimeValLike as _},
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat},
};
use tar::{Archive, EntryType};

use super::path;

const MOST_ENTRIES: u64 = 200_000;
/// Names and extended headers are held in memory.
const LONGEST_NAME: u64 = 1 << 20;

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Root.
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };

    /// From `uid:gid`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (uid, gid) = text.split_once(':')?;
        Some(Self {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    }
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not a tar, or not readable.
    #[error("cannot read the archive: {0}")]
    Read(#[from] io::Error),
    /// An entry that could lead out of the folder, or is no file, folder or link.
    #[error("{0}: {1}")]
    Refused(PathBuf, &'static str),
    /// The system.
    #[error("{0}: {1}")]
    System(PathBuf, Errno),
    /// Too many entries.
    #[error("more than {MOST_ENTRIES} entries")]
    Entries,
}

/// Looks at every header first; unpacks only when all may pass.
pub(crate) fn unpack(mut archive: &File, root: &Path, owner: Owner) -> Result<Stored, Error> {
    check_headers(archive)?;
    archive.rewind()?;
    let folder = path::open_folder(root, true).map_err(|errno| Error::System(root.to_owned(), errno))?;
    let mut stored = Stored { files: 0, bytes: 0 };
    for entry in Archive::new(archive).entries_with_seek()? {
        let mut entry = entry?;
        if is_global_header(entry.header().entry_type()) {
            continue;
        }
        let name = beneath(&entry.path()?)?;
        let placed = place(&mut entry, &folder, &name, owner);
        let bytes = placed.map_err(|fault| fault.at(&name))?;
        if let Some(bytes) = bytes {
            stored.files += 1;
            stored.bytes += bytes;
        }
    }
    Ok(stored)
}

/// What went wrong with one entry, before its name is added.
enum Fault {
    Refused(&'static str),
    System(Errno),
    Read(io::Error),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl Fault {
    fn at(self, name: &Path) -> Error {
        match self {
            Self::Refused(why) => Error::Refused(name.to_owned(), why),
            Self::System(errno) => Error::System(name.to_owned(), errno),
            Self::Read(error) => Error::Read(error),
        }
    }
}

fn check_headers(archive: &File) -> Result<(), Error> {
    let mut count = 0;
    for entry in Archive::new(archive).entries_with_seek()?.raw(true) {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if is_name(kind) {
            if entry.header().entry_size()? > LONGEST_NAME {
                return Err(Error::Refused(
                    PathBuf::from("(header)"),
                    "a name that is too long",
                ));
            }
            continue;
        }
        count += 1;
        if count > MOST_ENTRIES {
            return Err(Error::Entries);
        }
    }
    // A second look with long names in their place.
    let mut again: &File = archive;
    again.rewind()?;
    for entry in Archive::new(archive).entries_with_seek()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if is_global_header(kind) {
            continue;
        }
        let name = beneath(&entry.path()?)?;
        let link = entry.link_name()?;
        check_entry(&name, kind, link.as_deref()).map_err(|why| Error::Refused(name.clone(), why))?;
    }
    Ok(())
}

fn check_entry(name: &Path, kind: EntryType, link: Option<&Path>) -> Result<(), &'static str> {
    if kind.is_file() || kind.is_dir() || kind.is_contiguous() {
        return Ok(());
    }
    let target = link.filter(|_| kind.is_symlink() || kind.is_hard_link());
    let Some(target) = target else {
        return Err("neither a file nor a folder nor a link");
    };
    let from = if kind.is_symlink() {
        name.parent().unwrap_or(Path::new(""))
    } else {
        Path::new("")
    };
    if stays_beneath(from, target) {
        Ok(())
    } else {
        Err("a link that leads out of the archive")
    }
}

fn is_name(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}

fn is_global_header(kind: EntryType) -> bool {
    kind.is_pax_global_extensions()
}

/// The entry's path, relative and without dots.
fn beneath(path: &Path) -> Result<PathBuf, Error> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return Err(Error::Refused(path.to_owned(), "an absolute path"));
            }
            Component::ParentDir => return Err(Error::Refused(path.to_owned(), "a path with ..")),
        }
    }
    Ok(clean)
}

fn stays_beneath(from: &Path, target: &Path) -> bool {
    let mut depth = from.components().count();
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Puts one entry in its place; the bytes when it is a regular file.
fn place<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    root: &OwnedFd,
    name: &Path,
    owner: Owner,
) -> Result<Option<u64>, Fault> {
    let kind = entry.header().entry_type();
    // No setuid files: an archive of an agent's bundle should not bring any.
    let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o1777);
    if kind.is_dir() {
        let folder = path::open_beneath(root, name, true)?;
        if !name.as_os_str().is_empty() {
            give(&folder, owner, mode)?;
        }
        return Ok(None);
    }
    let file_name = name.file_name().ok_or(Fault::Refused("without a name"))?;
    let folder = path::open_beneath(root, name.parent().unwrap_or(Path::new("")), true)?;
    remove(&folder, file_name)?;
    if kind.is_symlink() {
        let target = entry
            .link_name()?
            .ok_or(Fault::Refused("a link without a target"))?;
        symlinkat(target.as_ref(), &folder, file_name)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchownat(
            &folder,
            file_name,
            Some(uid),
            Some(gid),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        return Ok(None);
    }
    if kind.is_hard_link() {
        let target = entry
            .link_name()?
            .ok_or(Fault::Refused("a link without a target"))?;
        let target = beneath(&target).map_err(|_| Fault::Refused("a link that leads out of the archive"))?;
        let old = target.file_name().ok_or(Fault::Refused("a link to nothing"))?;
        let from = path::open_beneath(root, target.parent().unwrap_or(Path::new("")), false)?;
        linkat(&from, old, &folder, file_name, AtFlags::empty())?;
        return Ok(None);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(
        &folder,
        file_name,
        flags,
        Mode::from_bits_truncate(0o600),
    )?);
    let bytes = io::copy(entry, &mut file)?;
    file.flush()?;
    let modified = entry
        .header()
        .mtime()
        .ok()
        .and_then(|mtime| i64::try_from(mtime).ok());
    if let Some(modified) = modified {
        let time = TimeSpec::seconds(modified);
        futimens(&file, &time, &time)?;
    }
    give(&file, owner, mode)?;
    Ok(Some(bytes))
}

/// Owner first: changing it clears bits of the mode.
fn give(file: impl std::os::fd::AsFd, owner: Owner, mode: Mode) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    fchown(&file, Some(uid), Some(gid))?;
    fchmod(file, mode)
}

fn remove(folder: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
