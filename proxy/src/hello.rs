//! Reads the name out of a TLS `ClientHello` without answering it.
//!
//! The bytes are kept, so that the connection can still be passed through unopened or be answered by us. rustls' own
//! acceptor reads them: it joins hellos that are cut over segments and records, and refuses what is no hello.

mod ech;

use std::{io, time::Duration};

use assay_core::egress::HostName;
use rustls::{InvalidMessage, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use crate::route::Reason;

/// A hello and everything that came with it.
#[derive(Debug)]
pub struct Hello {
    /// The name that the client asks for.
    pub name: HostName,
    /// Whether it carries an encrypted hello, or looks like that.
    pub has_ech: bool,
    /// All bytes read so far.
    pub bytes: Vec<u8>,
}

/// Why there is no usable hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The stable code.
    pub reason: Reason,
    /// The name as it was sent, when it is one that cannot be used.
    pub name: Option<String>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, name: None }
    }
}

/// Reads up to the end of the hello: at most [`MOST_BYTES`], within [`DEADLINE`].
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, Refused> {
    timeout(DEADLINE, read_all(stream))
        .await
        .unwrap_or(Err("hello_timeout".into()))
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, Refused> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::with_capacity(2048);
    loop {
        let start = bytes.len();
        if start >= MOST_BYTES {
            return Err("hello_too_large".into());
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return Err("closed_before_hello".into()),
            Ok(_) => {}
            Err(_) => return Err("connection_lost".into()),
        }
        let mut fresh = &bytes[start..];
        while !fresh.is_empty() {
            feed(&mut acceptor, &mut fresh)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = name(accepted.client_hello().server_name())?;
                    let has_ech = ech::is_sent(&bytes);
                    return Ok(Hello { name, has_ech, bytes });
                }
                Err((error, _alert)) => return Err(reason(&error).into()),
            }
        }
    }
}

fn feed(acceptor: &mut Acceptor, fresh: &mut &[u8]) -> Result<(), Refused> {
    match acceptor.read_tls(&mut *fresh as &mut dyn io::Read) {
        Ok(0) | Err(_) => Err("hello_too_large".into()),
        Ok(_) => Ok(()),
    }
}

/// rustls tells no name both for an absent one and for an address.
fn name(sent: Option<&str>) -> Result<HostName, Refused> {
    let sent = sent.ok_or("no_server_name")?;
    sent.parse().map_err(|_| Refused {
        reason: "server_name_malformed",
        name: Some(sent.chars().take(253).collect()),
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other error has the same code"
)]
fn reason(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)
        | rustls::Error::PeerSentOversizedRecord => "hello_too_large",
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => "not_tls",
        _ => "hello_refused",
    }
}

/// rustls' own cap for a handshake message.
const MOST_BYTES: usize = 64 * 1024;
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
