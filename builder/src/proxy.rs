//! Whether the proxy beside the builder answers.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use assay_core::egress::port;

const ANSWER: Duration = Duration::from_secs(2);
/// Between two looks at a proxy that is starting.
const AGAIN: Duration = Duration::from_millis(20);

/// Waits for one that is starting.
pub(crate) fn is_there_within(patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while !is_there() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(AGAIN);
    }
    true
}

/// Does it answer now?
pub(crate) fn is_there() -> bool {
    ask().is_ok_and(|head| head == *b"HTTP/1.1 200")
}

fn ask() -> io::Result<[u8; 12]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port::PROXY))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head)
}
