//! Who may call.

use assay_core::{
    control::signature::{AUTH_HEADER, Claim, Signer},
    digest::Digest,
    id::Fence,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::sandbox::{FENCE, SEED, Sandbox, Setup, client_of, code, id, shell};

async fn raw(sandbox: &Sandbox, auth: Option<&str>, body: &str) -> String {
    let auth = auth.map_or_else(String::new, |auth| format!("{AUTH_HEADER}: {auth}\r\n"));
    let mut stream = TcpStream::connect(sandbox.address).await.unwrap();
    let request = format!(
        "POST /v1/kill HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{auth}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_whitespace().nth(1).unwrap().to_owned()
}

async fn claim(sandbox: &Sandbox, nonce: &str, content: &str) -> Claim {
    let health = sandbox.client.health().await.unwrap();
    Claim {
        sandbox: id(),
        fence: FENCE,
        nonce: nonce.to_owned(),
        deadline_ms: health.monotonic_ms + 10_000,
        boot: health.boot,
        content: Some(Digest::of(content)),
    }
}

#[tokio::test]
async fn unsigned_replayed_and_changed_requests_are_refused() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let signer = Signer::new(&SEED);
    assert_eq!(raw(&sandbox, None, "").await, "401");
    assert_eq!(raw(&sandbox, Some("v1.x.y"), "").await, "401");
    let auth = signer.authorize(&claim(&sandbox, "n1", "").await, "POST", "/v1/kill");
    assert_eq!(raw(&sandbox, Some(&auth), "").await, "200");
    assert_eq!(raw(&sandbox, Some(&auth), "").await, "409");
    let auth = signer.authorize(&claim(&sandbox, "n2", "").await, "POST", "/v1/kill");
    assert_eq!(raw(&sandbox, Some(&auth), "more").await, "400");
    let auth = signer.authorize(&claim(&sandbox, "n3", "").await, "POST", "/v1/shutdown");
    assert_eq!(raw(&sandbox, Some(&auth), "").await, "401");
}

#[tokio::test]
async fn another_key_and_a_stale_fence_are_refused() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let stranger = client_of(sandbox.address, FENCE, &[8; 32]);
    assert_eq!(code(stranger.execute(&shell("true")).await), "bad_signature");
    let adopter = client_of(sandbox.address, Fence(6), &SEED);
    adopter.kill().await.unwrap();
    assert_eq!(code(sandbox.client.kill().await), "stale_fence");
}
