//! What is said to a stream, and what comes back.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};

use super::{PATIENCE, Verdict};

/// Where nobody lives (RFC 5737).
pub(super) const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A port of the sandbox itself.
pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// Says this, each piece in a packet of its own; the first words of the answer.
pub(super) fn first(target: SocketAddr, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut stream = say(target, pieces)?;
    let mut answer = vec![0; 2048];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// Says this; all that is answered until the other side has ended or is silent.
pub(super) fn all(target: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = say(target, &[bytes])?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

fn say(target: SocketAddr, pieces: &[&[u8]]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    for piece in pieces {
        stream.write_all(piece)?;
    }
    Ok(stream)
}

/// A connection that is ended without an answer was refused.
pub(super) fn unanswered(target: SocketAddr, talked: io::Result<Vec<u8>>) -> Verdict {
    match talked {
        Ok(answer) if answer.is_empty() => Verdict::Closed("ended without an answer".to_owned()),
        Ok(answer) => Verdict::Open(format!("answered with {} bytes", answer.len())),
        Err(error) => Verdict::of_failure(target, &error),
    }
}

/// Of a port of ours: whoever does not find us there has found somebody else's sandbox, or none.
pub(super) fn refused_by_ours(port: u16, talked: io::Result<Vec<u8>>) -> Verdict {
    match talked {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 4") => Verdict::Closed(status(&answer)),
        Ok(answer) if answer.is_empty() => Verdict::Closed("ended without an answer".to_owned()),
        Ok(answer) => Verdict::Open(status(&answer)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Verdict::Closed(error.to_string()),
        Err(error) => not_ours(port, &error),
    }
}

/// Nobody of ours listens here.
pub(super) fn not_ours(port: u16, error: &io::Error) -> Verdict {
    Verdict::Open(format!("port {port} is not ours here: {error}"))
}

/// The first line of an answer.
pub(super) fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer)
        .lines()
        .next()
        .unwrap_or("no answer")
        .to_owned()
}
