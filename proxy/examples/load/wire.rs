//! Just enough HTTP/1.1 to send one request after the other and find the end of each answer: the client must not be what
//! is measured.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::target::{Stream, Target};

/// One connection that takes one request at a time.
pub(crate) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

/// The bytes of every request to a target.
pub(crate) fn request(target: &Target) -> io::Result<Vec<u8>> {
    let (path, name) = (target.path(), target.name());
    let text = match target.body()? {
        None => format!("GET {path} HTTP/1.1\r\nhost: {name}\r\naccept: */*\r\n\r\n"),
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nhost: {name}\r\naccept: */*\r\nauthorization: Bearer placeholder\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    };
    Ok(text.into_bytes())
}

impl Wire {
    pub(crate) async fn connect(target: &Target) -> io::Result<Self> {
        Ok(Self {
            stream: target.connect().await?,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends a request and reads the answer to its end; its status.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        while !is_complete(&self.buffer) {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        status(&self.buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Ends the connection at once.
    pub(crate) async fn close(mut self) {
        drop(self.stream.shutdown().await);
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let digits = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    match content_length(head) {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n"),
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}
