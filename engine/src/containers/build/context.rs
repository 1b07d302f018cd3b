//! Streams a folder as the tar that a builder expects: root's files, links kept as links, `.dockerignore` obeyed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use assay_core::dockerfile::without_heredocs;
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::ignore::Ignore;

/// Pieces under way, and the size of one.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 64 << 10;

/// The context as a stream of tar bytes. An error of the walk ends the stream with it.
pub(super) fn stream(
    folder: PathBuf,
    dockerfile: String,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let failed = sender.clone();
        if let Err(error) = pack(&folder, &dockerfile, Pipe::new(sender)) {
            // Nobody listens any more once the builder has ended.
            drop(failed.blocking_send(Err(error)));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

/// Writes the whole archive.
fn pack(folder: &Path, dockerfile: &str, pipe: Pipe) -> io::Result<()> {
    let ignore = Ignore::read(folder, dockerfile)?;
    let mut archive = tar::Builder::new(pipe);
    archive.follow_symlinks(false);
    add_folder(&mut archive, folder, "", &ignore)?;
    rewrite(&mut archive, folder, dockerfile)?;
    let mut pipe = archive.into_inner()?;
    io::Write::flush(&mut pipe)
}

fn add_folder<W: io::Write>(
    archive: &mut tar::Builder<W>,
    folder: &Path,
    prefix: &str,
    ignore: &Ignore,
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file_name = entry.file_name();
        let name = file_name.to_str().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not UTF-8", entry.path().display()),
            )
        })?;
        let inside = format!("{prefix}{name}");
        let is_folder = entry.file_type()?.is_dir();
        let excluded = ignore.excludes(&inside);
        if is_folder {
            if !excluded {
                add_entry(archive, &entry.path(), &inside)?;
            }
            // An exception may bring back something below an excluded folder.
            if !excluded || ignore.has_exceptions() {
                add_folder(archive, &entry.path(), &format!("{inside}/"), ignore)?;
            }
        } else if !excluded {
            add_entry(archive, &entry.path(), &inside)?;
        }
    }
    Ok(())
}

/// Engines' own builders know no here-documents. The entry that comes last in the archive is the one that counts.
fn rewrite<W: io::Write>(archive: &mut tar::Builder<W>, folder: &Path, dockerfile: &str) -> io::Result<()> {
    let Ok(text) = fs::read_to_string(folder.join(dockerfile)) else {
        return Ok(());
    };
    let plain = without_heredocs(&text);
    if plain == text {
        return Ok(());
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(plain.len() as u64);
    archive.append_data(&mut header, dockerfile, plain.as_bytes())
}

/// Owner and times stay out of it: the same content is the same image.
fn add_entry<W: io::Write>(archive: &mut tar::Builder<W>, path: &Path, inside: &str) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(&metadata, tar::HeaderMode::Complete);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if kind.is_symlink() {
        header.set_size(0);
        archive.append_link(&mut header, inside, fs::read_link(path)?)
    } else if kind.is_dir() {
        header.set_size(0);
        archive.append_data(&mut header, format!("{inside}/"), io::empty())
    } else if kind.is_file() {
        let file = fs::File::open(path)?;
        archive.append_data(&mut header, inside, file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{inside} is neither file, folder nor link"),
        ))
    }
}

/// A writer whose bytes come out of a channel.
struct Pipe {
    piece: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Pipe {
    fn new(sender: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            piece: Vec::with_capacity(PIECE_BYTES),
            sender,
        }
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.sender
            .blocking_send(Ok(Bytes::from(piece)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests;
