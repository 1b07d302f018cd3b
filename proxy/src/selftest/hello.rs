//! The first flight of a TLS client, as an honest one sends it and as no honest one does.

use std::{io, sync::Arc};

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

/// An honest hello, taken apart.
pub(super) struct Hello {
    /// The message up to its extensions.
    start: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// What a client says that wants `name`.
    pub(super) fn honest(name: &str) -> io::Result<Self> {
        let record = client_hello(name)?;
        apart(&record).ok_or_else(|| io::Error::other("a hello of another form"))
    }

    /// The same with these names in place of its own; with none it names nobody.
    pub(super) fn named(mut self, names: &[&[u8]]) -> Self {
        self.extensions.retain(|(kind, _)| *kind != SERVER_NAME);
        if names.is_empty() {
            return self;
        }
        let listed: Vec<u8> = names
            .iter()
            .flat_map(|name| [&[HOST_NAME], length(name).as_slice(), name].concat())
            .collect();
        self.with(SERVER_NAME, [length(&listed).as_slice(), &listed].concat())
    }

    /// With one more extension, as the first: what is resumed has to stay the last.
    pub(super) fn with(mut self, kind: u16, body: Vec<u8>) -> Self {
        self.extensions.insert(0, (kind, body));
        self
    }

    /// In records of so many bytes.
    pub(super) fn records(&self, size: usize) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, body)| [&kind.to_be_bytes(), length(body).as_slice(), body].concat())
            .collect();
        let body = [&self.start, length(&extensions).as_slice(), &extensions].concat();
        records(
            &[&[CLIENT_HELLO, 0], length(&body).as_slice(), &body].concat(),
            size,
        )
    }

    /// In one record.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.records(16_000)
    }
}

/// More than any hello has.
pub(super) fn huge() -> Vec<u8> {
    records(
        &[[CLIENT_HELLO, 1, 0x11, 0x70].as_slice(), &vec![0; 70_000]].concat(),
        16_000,
    )
}

/// What comes before no hello of an honest client: a change of ciphers.
pub(super) const OTHER_RECORD: &[u8] = &[20, 3, 3, 0, 1, 1];
/// Encrypted hello, as clients send it that hide the name they want.
pub(super) const ENCRYPTED: u16 = 0xfe0d;

/// The outer form of an encrypted hello: a key and what it hides.
pub(super) fn hidden() -> Vec<u8> {
    let (key, payload) = ([b'e'; 32], [b'p'; 16]);
    [&[0, 0, 1, 0, 1, 1, 0, 32], key.as_slice(), &[0, 16], &payload].concat()
}

fn client_hello(name: &str) -> io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

fn apart(record: &[u8]) -> Option<Hello> {
    let (_record_and_message_heads, body) = record.split_at_checked(5 + 4)?;
    let (_version_and_random, rest) = body.split_at_checked(2 + 32)?;
    let (_session, rest) = vector::<1>(rest)?;
    let (_suites, rest) = vector::<2>(rest)?;
    let (_compressions, rest) = vector::<1>(rest)?;
    let start = body.get(..body.len() - rest.len())?.to_vec();
    let (mut listed, _) = vector::<2>(rest)?;
    let mut extensions = Vec::new();
    while let [high, low, rest @ ..] = listed {
        let (body, after) = vector::<2>(rest)?;
        extensions.push((u16::from_be_bytes([*high, *low]), body.to_vec()));
        listed = after;
    }
    Some(Hello { start, extensions })
}

/// Bytes after a length of `N` bytes, and what follows them.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(N)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1], length(part).as_slice(), part].concat();
    message.chunks(size).flat_map(record).collect()
}

/// In two bytes. Nothing here is longer than these can say.
fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello;

    async fn read(bytes: &[u8]) -> Result<(String, bool), &'static str> {
        let read = hello::read(&mut &*bytes).await;
        read.map(|hello| (hello.name.to_string(), hello.has_ech))
            .map_err(|refused| refused.reason)
    }

    #[tokio::test]
    async fn each_hello_is_what_it_is_called() {
        let honest = || Hello::honest("x.invalid").unwrap();
        let plain = Ok(("x.invalid".to_owned(), false));
        assert_eq!(read(&honest().whole()).await, plain);
        assert_eq!(read(&honest().records(7)).await, plain);
        assert_eq!(
            read(&honest().with(ENCRYPTED, hidden()).whole()).await,
            Ok(("x.invalid".to_owned(), true))
        );
        assert_eq!(read(&honest().named(&[]).whole()).await, Err("no_server_name"));
        assert_eq!(
            read(&honest().named(&[b"192.0.2.1"]).whole()).await,
            Err("no_server_name")
        );
        assert_eq!(
            read(&honest().named(&[b"_x.invalid"]).whole()).await,
            Err("server_name_malformed")
        );
        assert!(
            read(&honest().named(&[b"x.invalid", b"y.invalid"]).whole())
                .await
                .is_err()
        );
        assert!(read(&[OTHER_RECORD, &honest().whole()].concat()).await.is_err());
        assert_eq!(read(&huge()).await, Err("hello_too_large"));
    }
}
