//! `POST /v1/collect`: the list first, then the bytes, each file as long as the list says.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use assay_core::control::runner::{Collect, EntryKind};
use bytes::Bytes;
use http::{Response, StatusCode};
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::{Mode, SFlag, fstat},
};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    list::{Error, List, Listed},
    path,
};
use crate::answer::{Body, Failure, problem, stream};

const PIECE: usize = 64 * 1024;
/// The manifest's name in the tar.
const MANIFEST: &str = "manifest.json";

/// Lists, then streams.
pub(crate) async fn send(wanted: Collect) -> Result<Response<Body>, Failure> {
    let list = spawn_blocking(move || List::make(&wanted))
        .await
        .map_err(|error| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()))?
        .map_err(|error| refuse(&error))?;
    let (sender, receiver) = mpsc::channel(2);
    spawn_blocking(move || {
        let mut pieces = Pieces::new(sender);
        let written = write_tar(&list, &mut pieces).and_then(|()| pieces.flush());
        if let Err(error) = written {
            // The connection is broken off, so the reader knows; perhaps it is gone itself.
            drop(pieces.sender.blocking_send(Err(error)));
        }
    });
    Ok(stream("application/x-tar", receiver))
}

fn refuse(error: &Error) -> Failure {
    let (status, code) = match error {
        Error::Relative(_) => (StatusCode::BAD_REQUEST, "bad_request"),
        Error::Entries(_) | Error::Bytes(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        Error::System(..) => (StatusCode::UNPROCESSABLE_ENTITY, "unreadable"),
    };
    problem(status, code, &error.to_string())
}

fn write_tar(list: &List, to: &mut Pieces) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let manifest = serde_json::to_vec(&list.manifest())?;
    let mut header = tar::Header::new_gnu();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, MANIFEST, &manifest[..])?;
    for listed in &list.entries {
        write_entry(&mut tar, listed)?;
    }
    tar.finish()
}

fn write_entry(tar: &mut tar::Builder<&mut Pieces>, listed: &Listed) -> io::Result<()> {
    let name = listed.path.strip_prefix("/").unwrap_or(&listed.path);
    let mut header = tar::Header::new_gnu();
    header.set_mode(listed.entry.mode);
    header.set_mtime(listed.modified);
    header.set_uid(u64::from(listed.owner.0));
    header.set_gid(u64::from(listed.owner.1));
    header.set_size(listed.entry.size);
    match (listed.entry.kind, &listed.target) {
        (EntryKind::File, _) => {
            header.set_entry_type(tar::EntryType::Regular);
            let content = Exactly {
                file: open_again(&listed.path),
                left: listed.entry.size,
            };
            tar.append_data(&mut header, name, content)
        }
        (EntryKind::Directory, _) if !name.as_os_str().is_empty() => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, name, io::empty())
        }
        (EntryKind::Symlink, Some(target)) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, name, target)
        }
        _ => Ok(()),
    }
}

/// The file of the list, if it still is one: never a pipe, a device or what a link leads to.
fn open_again(path: &Path) -> Option<File> {
    let folder = path::open_folder(path.parent()?, false).ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(&folder, path.file_name()?, flags, Mode::empty()).ok()?;
    let format = SFlag::from_bits_truncate(fstat(&file).ok()?.st_mode) & SFlag::S_IFMT;
    (format == SFlag::S_IFREG).then(|| File::from(file))
}

/// Exactly as many bytes as announced: what the file lost since is zeros, what it gained is not sent.
struct Exactly {
    file: Option<File>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let mut count = match &mut self.file {
            Some(file) => file.read(&mut buffer[..most]).unwrap_or(0),
            None => 0,
        };
        if count == 0 {
            self.file = None;
            buffer[..most].fill(0);
            count = most;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Gathers what the tar writes into pieces and waits while nobody takes them.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
}

impl Pieces {
    fn new(sender: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            sender,
            gathered: Vec::with_capacity(PIECE),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(Bytes::from(piece)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
