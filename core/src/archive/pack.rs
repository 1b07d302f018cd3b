//! Makes archives: the same folder always gives the same bytes, whoever owns it and whenever it was touched.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use super::{Caps, Entry, Error, Files, ignore::Ignored, read::clean};
use crate::digest::{Digest, Hasher};

/// Lists a folder: what the ignore rules leave, with digests.
///
/// Honoured are `.gitignore` at the root (or else the usual leftovers of editors and Python), and `.harborignore` in
/// `tests/`, `solution/`, `steps/*/tests/` and `steps/*/solution/`. `.git` is never packed.
pub fn scan(directory: &Path, caps: Caps) -> Result<Files, Error> {
    let mut ignored = Ignored::new(read_small(&directory.join(".gitignore"))?.as_deref());
    let mut scan = Scan {
        root: directory,
        caps,
        files: Files::default(),
        entries: 0,
        bytes: 0,
    };
    scan.folder("", &mut ignored)?;
    scan.files.check_links()?;
    Ok(scan.files)
}

/// Packs what [`scan`] listed and returns the digest of the archive that was written.
pub fn pack(directory: &Path, files: &Files, out: impl Write) -> Result<Digest, Error> {
    let hashing = Hashing {
        inner: out,
        hasher: Hasher::default(),
    };
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(hashing, Compression::default());
    let mut tar = tar::Builder::new(gzip);
    let failed = |path: &str| Error::io("pack", directory.join(path));
    for (path, entry) in files.entries() {
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match entry {
            Entry::Directory { mode } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                tar.append_data(&mut header, format!("{path}/"), std::io::empty())
                    .map_err(failed(path))?;
            }
            Entry::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, path, target).map_err(failed(path))?;
            }
            Entry::File { size, mode, .. } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(*size);
                let file = File::open(directory.join(path)).map_err(failed(path))?;
                let exact = Exact {
                    inner: file.take(*size),
                    left: *size,
                };
                tar.append_data(&mut header, path, exact).map_err(failed(path))?;
            }
        }
    }
    let gzip = tar.into_inner().map_err(failed(""))?;
    let mut hashing = gzip.finish().map_err(failed(""))?;
    hashing.inner.flush().map_err(failed(""))?;
    Ok(hashing.hasher.finish())
}

struct Scan<'a> {
    root: &'a Path,
    caps: Caps,
    files: Files,
    entries: u64,
    bytes: u64,
}

impl Scan<'_> {
    fn folder(&mut self, path: &str, ignored: &mut Ignored) -> Result<(), Error> {
        let full = self.root.join(path);
        if Ignored::has_harbor_rules(path) {
            ignored.enter(path, read_small(&full.join(".harborignore"))?.as_deref());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&full).map_err(Error::io("list", &full))? {
            let name = entry.map_err(Error::io("list", &full))?.file_name();
            names.push(name.into_string().map_err(|name| Error::Path {
                path: name.to_string_lossy().into_owned(),
                fault: "has a name that is no UTF-8",
            })?);
        }
        names.sort();
        for name in names {
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            self.entry(&path, ignored)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, ignored: &mut Ignored) -> Result<(), Error> {
        let Some(path) = clean(path)? else { return Ok(()) };
        let full = self.root.join(&path);
        let metadata = fs::symlink_metadata(&full).map_err(Error::io("look at", &full))?;
        if ignored.covers(&path, metadata.is_dir()) {
            return Ok(());
        }
        self.entries += 1;
        if self.entries > self.caps.entries {
            return Err(Error::TooManyEntries(self.caps.entries));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            self.files.insert(path.clone(), Entry::Directory { mode })?;
            return self.folder(&path, ignored);
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&full).map_err(Error::io("look at", &full))?;
            let target = target.to_string_lossy().into_owned();
            return self.files.insert(path, Entry::Link { target });
        }
        if !metadata.is_file() {
            return Err(Error::Kind {
                path,
                kind: "device, socket or pipe",
            });
        }
        self.file(path, mode, metadata.len())
    }

    fn file(&mut self, path: String, mode: u32, size: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.caps.unpacked_bytes {
            return Err(Error::TooBig(self.caps.unpacked_bytes));
        }
        let full = self.root.join(&path);
        let mut file = File::open(&full).map_err(Error::io("read", &full))?;
        let mut kept = (Files::is_kept(&path, size) && self.files.has_room(size)).then(Vec::new);
        let mut hasher = Hasher::default();
        let mut buffer = vec![0_u8; 64 * 1024];
        let mut read = 0_u64;
        loop {
            let count = file.read(&mut buffer).map_err(Error::io("read", &full))?;
            if count == 0 {
                break;
            }
            read += u64::try_from(count).unwrap_or(0);
            hasher.update(&buffer[..count]);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&buffer[..count]);
            }
        }
        self.files.insert(
            path.clone(),
            Entry::File {
                size: read,
                mode,
                digest: hasher.finish(),
            },
        )?;
        if let Some(content) = kept {
            self.files.keep(path, content);
        }
        Ok(())
    }
}

/// The text of a small file; `None` when there is none.
fn read_small(path: &Path) -> Result<Option<String>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut content = Vec::new();
    file.take(1 << 20)
        .read_to_end(&mut content)
        .map_err(Error::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

/// Digests what passes.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A file that became shorter since it was listed would shift everything after it: an error instead.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(0));
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(std::io::Error::other(
                "the file became shorter while it was packed",
            ));
        }
        Ok(count)
    }
}
