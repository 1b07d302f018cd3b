use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// What a client sends first when it asks for `name`.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same handshake message cut into records of `size` bytes.
fn cut_into_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&header[..3], &length, part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

async fn read_bytes(bytes: &[u8]) -> Result<Hello, Refused> {
    read(&mut &*bytes).await
}

#[tokio::test]
async fn a_plain_hello_tells_its_name_and_keeps_its_bytes() {
    let bytes = hello("API.example.com");
    let read = read_bytes(&bytes).await.unwrap();
    assert_eq!(read.name.as_str(), "api.example.com");
    assert_eq!(read.bytes, bytes);
}

#[tokio::test]
async fn a_hello_cut_over_records_and_segments_is_joined() {
    let bytes = cut_into_records(&hello("api.example.com"), 7);
    assert_eq!(read_bytes(&bytes).await.unwrap().name.as_str(), "api.example.com");
    let (mut near, mut far) = tokio::io::duplex(1);
    let sent = bytes.clone();
    let writer = tokio::spawn(async move { near.write_all(&sent).await });
    assert_eq!(read(&mut far).await.unwrap().bytes, bytes);
    writer.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_follows_the_hello_is_kept_too() {
    let bytes = [hello("api.example.com"), vec![20, 3, 3, 0, 1, 1]].concat();
    assert_eq!(read_bytes(&bytes).await.unwrap().bytes, bytes);
}

#[tokio::test]
async fn every_oddity_has_its_reason() {
    let valid = hello("api.example.com");
    let with_name = |name: &[u8; 15]| {
        let at = valid
            .windows(15)
            .position(|window| window == b"api.example.com")
            .unwrap();
        let mut odd = valid.clone();
        odd[at..at + 15].copy_from_slice(name);
        odd
    };
    for (bytes, reason) in [
        (hello("192.0.2.1"), "no_server_name"),
        (with_name(b"api_example.com"), "server_name_malformed"),
        (with_name(b"apiiexampleecom"), "server_name_malformed"),
        (with_name(b"api.example\0com"), "hello_refused"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not_tls"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
        ([vec![20, 3, 3, 0, 1, 1], valid.clone()].concat(), "not_tls"),
        (valid[..valid.len() - 1].to_vec(), "closed_before_hello"),
        (Vec::new(), "closed_before_hello"),
    ] {
        let refused = read_bytes(&bytes).await.unwrap_err();
        assert_eq!(refused.reason, reason);
    }
}

#[tokio::test]
async fn a_huge_hello_is_refused() {
    let endless = [&[1, 0xff, 0xff, 0xff][..], &vec![0; 70_000]].concat();
    let header = [22, 3, 1, 0, 0];
    let bytes = cut_into_records(&[&header[..], &endless].concat(), 16_000);
    let refused = read_bytes(&bytes).await.unwrap_err();
    assert!(
        ["hello_too_large", "not_tls", "hello_refused"].contains(&refused.reason),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_never_ends_is_given_up() {
    let (_near, mut far) = tokio::io::duplex(64);
    assert_eq!(read(&mut far).await.unwrap_err().reason, "hello_timeout");
}
