//! The files of an audit: one stream of bytes in pieces, so that what was carried away can be forgotten.
//!
//! A piece is named by the offset of its first byte in the stream. A reader that asks from an offset has everything
//! before it; whole pieces before that offset go once more than [`MOST_KEPT`] are there. What nobody has read is never
//! forgotten: the stream is full then.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::state::read_from;

/// The pieces that are there, in their order.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    /// Where each piece begins; the last one goes up to `end`.
    begins: Vec<u64>,
    end: u64,
}

/// Writes the last piece.
#[derive(Debug)]
pub struct Segments {
    shelf: Shelf,
    file: File,
    /// Up to here somebody has read.
    taken: u64,
    /// After a write that failed in its middle, until the rest of it is gone.
    torn: bool,
    sizes: Sizes,
}

/// How large pieces and all of them together may become, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// A piece ends with the line that reaches this.
    pub piece: u64,
    /// More is only kept while nobody has read it.
    pub kept: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            piece: 4 << 20,
            kept: MOST_KEPT,
        }
    }
}

impl Shelf {
    /// Finds the pieces of an earlier life.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut begins = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let begin: Option<u64> = name
                .to_str()
                .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok());
            begins.extend(begin);
        }
        begins.sort_unstable();
        let mut shelf = Self {
            folder: folder.to_owned(),
            begins,
            end: 0,
        };
        if let Some(last) = shelf.begins.last() {
            shelf.end = last + fs::metadata(shelf.path(*last))?.len();
        }
        Ok(shelf)
    }

    /// Bytes from `from` on, at most `most` and of one piece; none at the end. `None` where they were forgotten.
    pub fn read(&self, from: u64, most: u64) -> io::Result<Option<Vec<u8>>> {
        if from >= self.end {
            return Ok(Some(Vec::new()));
        }
        let after = self.begins.partition_point(|begin| *begin <= from);
        let Some(begin) = after.checked_sub(1).and_then(|at| self.begins.get(at)) else {
            return Ok(None);
        };
        let end = self.begins.get(after).copied().unwrap_or(self.end);
        read_from(&self.path(*begin), from - begin, most.min(end - from)).map(Some)
    }

    /// Everything that is still there.
    pub fn whole(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        for begin in &self.begins {
            all.extend(fs::read(self.path(*begin))?);
        }
        Ok(all)
    }

    /// Length of the whole stream, forgotten pieces included.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn path(&self, begin: u64) -> PathBuf {
        self.folder.join(format!("audit-{begin:020}.jsonl"))
    }
}

impl Segments {
    /// An empty stream.
    pub fn create(folder: &Path, sizes: Sizes) -> io::Result<Self> {
        let shelf = Shelf {
            folder: folder.to_owned(),
            begins: vec![0],
            end: 0,
        };
        Ok(Self {
            file: create(&shelf.path(0))?,
            shelf,
            taken: 0,
            torn: false,
            sizes,
        })
    }

    /// Appends a line, whole or not at all.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let begin = self.shelf.begins.last().copied().unwrap_or(0);
        if self.torn {
            self.file.set_len(self.shelf.end - begin)?;
            self.torn = false;
        }
        if self.shelf.end - begin >= self.sizes.piece {
            self.forget();
            let kept = self.shelf.end - self.shelf.begins.first().copied().unwrap_or(0);
            if kept > self.sizes.kept {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file = create(&self.shelf.path(self.shelf.end))?;
            self.shelf.begins.push(self.shelf.end);
        }
        self.torn = true;
        self.file.write_all(line)?;
        self.torn = false;
        self.shelf.end += line.len() as u64;
        Ok(())
    }

    /// As [`Shelf::read`]; everything before `from` counts as carried away.
    pub fn read(&mut self, from: u64, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.taken = self.taken.max(from.min(self.shelf.end));
        self.shelf.read(from, most)
    }

    /// Length of the whole stream.
    pub fn end(&self) -> u64 {
        self.shelf.end
    }

    /// Removes the oldest pieces that were carried away, until no more than may be kept are there.
    fn forget(&mut self) {
        while let [first, second, ..] = self.shelf.begins[..]
            && second <= self.taken
            && self.shelf.end - first > self.sizes.kept
        {
            if let Err(error) = fs::remove_file(self.shelf.path(first)) {
                tracing::warn!(%error, "a piece of the audit cannot be removed");
            }
            self.shelf.begins.remove(0);
        }
    }
}

/// Readable by the proxy's own user alone. Appending, so that cutting off a torn line moves the next one too.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

/// Everything that the workload may cause for nothing ends below half of this, see [`super::SOFT_BYTES`].
const MOST_KEPT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Sizes = Sizes { piece: 10, kept: 25 };

    #[test]
    fn one_stream_is_read_over_all_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::create(folder.path(), SMALL).unwrap();
        for line in ["first line\n", "second\n", "3\n", "4\n"] {
            segments.append(line.as_bytes()).unwrap();
        }
        let mut all = Vec::new();
        loop {
            let piece = segments.read(all.len() as u64, 4).unwrap().unwrap();
            if piece.is_empty() {
                break;
            }
            all.extend(piece);
        }
        assert_eq!(all, b"first line\nsecond\n3\n4\n");
        let shelf = Shelf::open(folder.path()).unwrap();
        assert_eq!((shelf.whole().unwrap(), shelf.end()), (all, 22));
        assert_eq!(shelf.begins, [0, 11]);
    }

    #[test]
    fn what_was_carried_away_is_forgotten_and_what_was_not_fills_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::create(folder.path(), SMALL).unwrap();
        let line = b"a line of its own\n";
        let full = (0..9).find_map(|_| segments.append(line).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(segments.end(), 36, "nothing unread went");
        assert!(segments.read(36, 9).unwrap().unwrap().is_empty());
        segments.append(line).unwrap();
        assert_eq!(segments.read(0, 9).unwrap(), None);
        assert_eq!(segments.read(36, 99).unwrap().unwrap(), line);
    }
}
