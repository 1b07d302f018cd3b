//! Walks over the bytes of a `tar.gz`, checking every name, kind and size on the way.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::{Caps, Entry, Error, Files};
use crate::digest::Hasher;

/// Reads the listing of an archive without writing anything.
pub fn list(archive: impl Read, caps: Caps) -> Result<Files, Error> {
    walk(archive, caps, |_, _| Ok(Vec::new()))
}

/// Takes the bytes of a file, piece by piece.
pub(super) type Taker = Vec<Box<dyn FnMut(&[u8]) -> Result<(), Error>>>;

/// Walks an archive. `begin` is told each file and folder before its content and may take the bytes of files.
#[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
pub(super) fn walk(
    archive: impl Read,
    caps: Caps,
    mut begin: impl FnMut(&str, Begun) -> Result<Taker, Error>,
) -> Result<Files, Error> {
    let packed = Rc::new(Cell::new(0_u64));
    let counted = Counted {
        inner: archive,
        bytes: Rc::clone(&packed),
    };
    let mut tar = tar::Archive::new(MultiGzDecoder::new(counted));
    let mut meter = Meter {
        caps,
        packed,
        unpacked: 0,
        entries: 0,
    };
    let mut files = Files::default();
    let mut next = Announced::default();
    // Raw: extension headers come as entries, so that their size is ours to cap.
    for entry in tar.entries().map_err(malformed)?.raw(true) {
        let mut entry = entry.map_err(malformed)?;
        meter.entry()?;
        if next.take(&mut entry)? {
            continue;
        }
        let announced = std::mem::take(&mut next);
        let Some(path) = clean(&announced.path(&entry)?)? else {
            continue;
        };
        let header = entry.header();
        let mode = header.mode().map_err(malformed)? & 0o777;
        let size = header.size().map_err(malformed)?;
        match header.entry_type() {
            EntryType::Directory => {
                files.insert(path.clone(), Entry::Directory { mode })?;
                begin(&path, Begun::Directory)?;
            }
            EntryType::Symlink => {
                let target = announced.link(&entry)?;
                files.insert(path, Entry::Link { target })?;
            }
            EntryType::Regular | EntryType::Continuous => {
                meter.file(size)?;
                // Inserted first: a refused name must not be begun.
                files.insert(path.clone(), Entry::Directory { mode: 0 })?;
                let taken = begin(&path, Begun::File { mode })?;
                let (digest, kept) = copy(&mut entry, &path, size, &mut meter, taken, &files)?;
                files.replace(path.clone(), Entry::File { size, mode, digest });
                if let Some(content) = kept {
                    files.keep(path, content);
                }
            }
            other => {
                return Err(Error::Kind {
                    path,
                    kind: kind_name(other),
                });
            }
        }
    }
    drain(tar.into_inner())?;
    files.check_links()?;
    Ok(files)
}

/// Reads the padding behind the last entry, so that the checksum at the very end is checked too.
fn drain(rest: impl Read) -> Result<(), Error> {
    let count = io::copy(&mut rest.take(MAX_PADDING_BYTES + 1), &mut io::sink()).map_err(malformed)?;
    if count > MAX_PADDING_BYTES {
        return Err(Error::Malformed("more follows behind its end".to_owned()));
    }
    Ok(())
}

/// What comes now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begun {
    File { mode: u32 },
    Directory,
}

fn copy(
    entry: &mut impl Read,
    path: &str,
    size: u64,
    meter: &mut Meter,
    mut taken: Taker,
    files: &Files,
) -> Result<(crate::digest::Digest, Option<Vec<u8>>), Error> {
    let mut hasher = Hasher::default();
    let mut kept = (Files::is_kept(path, size) && files.has_room(size)).then(Vec::new);
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut read = 0_u64;
    loop {
        let count = entry.read(&mut buffer).map_err(malformed)?;
        if count == 0 {
            break;
        }
        let piece = &buffer[..count];
        read += u64::try_from(count).unwrap_or(0);
        hasher.update(piece);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(piece);
        }
        for take in &mut taken {
            take(piece)?;
        }
        meter.unpacked(count)?;
    }
    if read != size {
        return Err(Error::Malformed(format!(
            "{path:?} ends after {read} of {size} bytes"
        )));
    }
    Ok((hasher.finish(), kept))
}

/// Long names and links, told by extension headers before the entry that they belong to.
#[derive(Default)]
struct Announced {
    path: Option<String>,
    link: Option<String>,
}

impl Announced {
    /// Takes the entry if it is an extension header.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<bool, Error> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(extension_text(entry)?),
            EntryType::GNULongLink => self.link = Some(extension_text(entry)?),
            EntryType::XHeader => self.pax(&extension(entry)?)?,
            EntryType::XGlobalHeader => {
                extension(entry)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn pax(&mut self, content: &[u8]) -> Result<(), Error> {
        for record in tar::PaxExtensions::new(content) {
            let record = record.map_err(malformed)?;
            let value = || utf8(record.value_bytes().to_vec());
            match record.key().unwrap_or_default() {
                "path" => self.path = Some(value()?),
                "linkpath" => self.link = Some(value()?),
                "size" => {
                    return Err(Error::Malformed(
                        "a size in an extension header is not taken".to_owned(),
                    ));
                }
                key if key.starts_with("GNU.sparse") => {
                    return Err(Error::Malformed("sparse files are not taken".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, entry: &tar::Entry<'_, impl Read>) -> Result<String, Error> {
        match &self.path {
            Some(path) => Ok(path.clone()),
            None => utf8(entry.path_bytes().into_owned()),
        }
    }

    fn link(&self, entry: &tar::Entry<'_, impl Read>) -> Result<String, Error> {
        match &self.link {
            Some(link) => Ok(link.clone()),
            None => utf8(entry.link_name_bytes().unwrap_or_default().into_owned()),
        }
    }
}

fn extension(entry: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    entry
        .take(MAX_EXTENSION_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(malformed)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > MAX_EXTENSION_BYTES) {
        return Err(Error::Malformed(format!(
            "an extension header has more than {MAX_EXTENSION_BYTES} bytes"
        )));
    }
    Ok(content)
}

fn extension_text(entry: &mut impl Read) -> Result<String, Error> {
    let mut content = extension(entry)?;
    while content.last() == Some(&0) {
        content.pop();
    }
    utf8(content)
}

fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| Error::Path {
        path: String::from_utf8_lossy(error.as_bytes()).into_owned(),
        fault: "has a name that is no UTF-8",
    })
}

/// The one way to write a name; `None` for the root itself.
pub(super) fn clean(path: &str) -> Result<Option<String>, Error> {
    let refused = |fault| {
        Err(Error::Path {
            path: path.to_owned(),
            fault,
        })
    };
    if path.starts_with('/') {
        return refused("is absolute");
    }
    if path.len() > MAX_PATH_BYTES {
        return refused("has a name that is too long");
    }
    if path.contains('\0') {
        return refused("has a NUL in its name");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return refused("leaves the archive by `..`"),
            part if part.len() > MAX_PART_BYTES => return refused("has a name that is too long"),
            part => parts.push(part),
        }
    }
    if parts.len() > MAX_DEPTH {
        return refused("lies too deep");
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// Counts against the caps.
struct Meter {
    caps: Caps,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    entries: u64,
}

impl Meter {
    fn entry(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.caps.entries {
            Err(Error::TooManyEntries(self.caps.entries))
        } else {
            Ok(())
        }
    }

    /// Refuses by the announced size already, before a byte is written.
    fn file(&self, size: u64) -> Result<(), Error> {
        if self.unpacked.saturating_add(size) > self.caps.unpacked_bytes {
            return Err(Error::TooBig(self.caps.unpacked_bytes));
        }
        Ok(())
    }

    fn unpacked(&mut self, count: usize) -> Result<(), Error> {
        self.unpacked = self
            .unpacked
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.unpacked > self.caps.unpacked_bytes {
            return Err(Error::TooBig(self.caps.unpacked_bytes));
        }
        let most = self.packed.get().saturating_mul(self.caps.ratio);
        if self.unpacked > self.caps.ratio_from_bytes && self.unpacked > most {
            return Err(Error::Ratio(self.caps.ratio));
        }
        Ok(())
    }
}

/// Counts the packed bytes.
struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes.set(
            self.bytes
                .get()
                .saturating_add(u64::try_from(count).unwrap_or(u64::MAX)),
        );
        Ok(count)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "hard link",
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        EntryType::Fifo => "named pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "thing of an unknown kind",
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: io::Error) -> Error {
    Error::Malformed(error.to_string())
}

const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
const MAX_PADDING_BYTES: u64 = 1 << 20;
const MAX_PATH_BYTES: usize = 4096;
const MAX_PART_BYTES: usize = 255;
const MAX_DEPTH: usize = 64;
