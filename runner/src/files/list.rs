//! The list of a collection: every entry beneath the wanted paths, frozen before the first byte is sent.

use std::{
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use assay_core::control::runner::{Collect, Entry, EntryKind, Manifest};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstatat},
};

use super::{glob, path};

/// Deeper trees are cut off: no honest artifact needs them.
const DEEPEST: usize = 128;

/// Why a collection is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A path is not absolute.
    #[error("not an absolute path: {0}")]
    Relative(String),
    /// More entries than allowed.
    #[error("more than {0} entries")]
    Entries(u64),
    /// More bytes than allowed.
    #[error("more than {0} bytes")]
    Bytes(u64),
    /// The system.
    #[error("{0}: {1}")]
    System(PathBuf, Errno),
}

/// One entry with what the tar needs beside the manifest.
#[derive(Debug)]
pub(crate) struct Listed {
    /// For the manifest.
    pub(crate) entry: Entry,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Seconds since the epoch.
    pub(crate) modified: u64,
    /// Its owner.
    pub(crate) owner: (u32, u32),
    /// Where it points, for links.
    pub(crate) target: Option<OsString>,
}

/// A frozen collection.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// In order.
    pub(crate) entries: Vec<Listed>,
    missing: Vec<String>,
    bytes: u64,
}

impl List {
    /// Walks all wanted paths.
    pub(crate) fn make(wanted: &Collect) -> Result<Self, Error> {
        let mut list = Self::default();
        for text in &wanted.paths {
            let top = Path::new(text);
            if !top.is_absolute() {
                return Err(Error::Relative(text.clone()));
            }
            list.add_top(text, top, wanted)?;
        }
        Ok(list)
    }

    /// What the manifest says.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            entries: self.entries.iter().map(|listed| listed.entry.clone()).collect(),
            missing: self.missing.clone(),
        }
    }

    fn add_top(&mut self, text: &str, top: &Path, wanted: &Collect) -> Result<(), Error> {
        let exclude = wanted.exclude.get(text).map(Vec::as_slice).unwrap_or_default();
        let Some(name) = top.file_name() else {
            // The whole file system.
            let folder =
                path::open_folder(top, false).map_err(|errno| Error::System(top.to_owned(), errno))?;
            return self.add_tree(&folder, top, (wanted, exclude));
        };
        let parent = top.parent().unwrap_or(Path::new("/"));
        let parent = match path::open_folder(parent, false) {
            Ok(parent) => parent,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                self.missing.push(text.to_owned());
                return Ok(());
            }
            Err(errno) => return Err(Error::System(top.to_owned(), errno)),
        };
        let Ok(kind) = self.add(&parent, name, top.to_owned(), wanted)? else {
            self.missing.push(text.to_owned());
            return Ok(());
        };
        if kind == EntryKind::Directory
            && let Ok(folder) = path::open_beneath(&parent, Path::new(name), false)
        {
            self.add_tree(&folder, top, (wanted, exclude))?;
        }
        Ok(())
    }

    /// Depth first without recursion; folders are opened again from the top, so that few descriptors are needed.
    fn add_tree(
        &mut self,
        root: &OwnedFd,
        top: &Path,
        (wanted, exclude): (&Collect, &[String]),
    ) -> Result<(), Error> {
        let mut folders = vec![PathBuf::new()];
        while let Some(relative) = folders.pop() {
            let Ok(folder) = path::open_beneath(root, &relative, false) else {
                // Gone, or a link by now.
                continue;
            };
            let mut below = Vec::new();
            for name in names(&folder) {
                let relative = relative.join(&name);
                let text = relative.to_string_lossy();
                if exclude.iter().any(|pattern| glob::fits(pattern, &text)) {
                    continue;
                }
                let added = self.add(&folder, &name, top.join(&relative), wanted)?;
                if added == Ok(EntryKind::Directory) && relative.components().count() < DEEPEST {
                    below.push(relative);
                }
            }
            folders.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Adds one entry. The inner error says that it is gone.
    fn add(
        &mut self,
        folder: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        wanted: &Collect,
    ) -> Result<Result<EntryKind, Errno>, Error> {
        let stat = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return Ok(Err(errno)),
        };
        let mut kind = kind(&stat);
        if path.to_str().is_none() || path.as_os_str().len() > 4000 {
            kind = EntryKind::Skipped;
        }
        let size = if kind == EntryKind::File {
            u64::try_from(stat.st_size).unwrap_or(0)
        } else {
            0
        };
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > wanted.max_bytes {
            return Err(Error::Bytes(wanted.max_bytes));
        }
        if self.entries.len() as u64 >= wanted.max_entries {
            return Err(Error::Entries(wanted.max_entries));
        }
        let target = (kind == EntryKind::Symlink)
            .then(|| readlinkat(folder, name).ok())
            .flatten();
        self.entries.push(Listed {
            entry: Entry {
                path: path.to_string_lossy().into_owned(),
                size,
                mode: stat.st_mode & 0o7777,
                kind,
            },
            path,
            modified: u64::try_from(stat.st_mtime).unwrap_or(0),
            owner: (stat.st_uid, stat.st_gid),
            target,
        });
        Ok(Ok(kind))
    }
}

fn kind(stat: &FileStat) -> EntryKind {
    let format = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if format == SFlag::S_IFREG {
        EntryKind::File
    } else if format == SFlag::S_IFDIR {
        EntryKind::Directory
    } else if format == SFlag::S_IFLNK {
        EntryKind::Symlink
    } else {
        EntryKind::Skipped
    }
}

/// Sorted, so that two collections of the same files are the same.
fn names(folder: &OwnedFd) -> Vec<OsString> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let opened = openat(folder, ".", flags, Mode::empty()).and_then(Dir::from_fd);
    let Ok(mut opened) = opened else {
        return Vec::new();
    };
    let mut names: Vec<OsString> = opened
        .iter()
        .flatten()
        .map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| name != "." && name != "..")
        .collect();
    names.sort();
    names
}
