//! A model service that is hostile, byte by byte: more answers than requests, very long ones, long silences.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use assay_core::{control::proxy::ProxyAssignment, money::PicoUsd, phase::EgressPhase};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    chat,
    model::Script,
    naive::NaiveBook,
    world::{Answer, MODEL_HOST, World, dial, eventually, tls},
};

/// What is said after a request: each piece after a pause.
type Says = fn(usize) -> Vec<(Duration, Vec<u8>)>;

struct Hostile {
    address: SocketAddr,
    root_pem: String,
    /// Requests that it has not said everything to.
    talking: Arc<AtomicUsize>,
}

impl Hostile {
    async fn start(says: Says) -> Self {
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new([MODEL_HOST.to_owned()]).unwrap();
        let certificate = names.self_signed(&key).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let talking = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&talking);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What is said leaves at once.
                stream.set_nodelay(true).unwrap();
                let (acceptor, talking) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        drop(converse(stream, says, &talking).await);
                    }
                });
            }
        });
        Self {
            address,
            root_pem: certificate.pem(),
            talking,
        }
    }

    /// Has it said everything?
    fn is_silent(&self) -> bool {
        self.talking.load(Ordering::SeqCst) == 0
    }

    /// A call to it with nobody in between.
    async fn call(&self, body: &serde_json::Value) -> Answer {
        let mut connection = tls(self.address, MODEL_HOST, &self.root_pem).await.unwrap();
        connection.post("/v1/chat/completions", &[], body).await
    }

    fn serve(&self, assignment: &mut ProxyAssignment) {
        assignment.upstreams[0].address = Some(self.address);
        assignment.upstreams[0].ca_pem = Some(self.root_pem.clone());
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    says: Says,
    talking: &AtomicUsize,
) -> std::io::Result<()> {
    for request in 0.. {
        read_request(&mut stream).await?;
        talking.fetch_add(1, Ordering::SeqCst);
        let said = say(&mut stream, says(request)).await;
        talking.fetch_sub(1, Ordering::SeqCst);
        said?;
    }
    Ok(())
}

async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    pieces: Vec<(Duration, Vec<u8>)>,
) -> std::io::Result<()> {
    for (pause, piece) in pieces {
        sleep(pause).await;
        stream.write_all(&piece).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// One request with a length.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok(())
}

fn answer(text: &str) -> Vec<u8> {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "cost": 0});
    let message = json!({"message": {"role": "assistant", "content": text}});
    let body = json!({"model": "test/small", "choices": [message], "usage": usage}).to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn at_once(bytes: Vec<u8>) -> Vec<(Duration, Vec<u8>)> {
    vec![(Duration::ZERO, bytes)]
}

/// Two answers to each request: the second one waits for whoever asks next on this connection.
fn one_too_many(_: usize) -> Vec<(Duration, Vec<u8>)> {
    at_once([answer("asked for"), answer("poisoned")].concat())
}

/// The same with the second one a moment later.
fn one_later(_: usize) -> Vec<(Duration, Vec<u8>)> {
    vec![
        (Duration::ZERO, answer("asked for")),
        (Duration::from_millis(5), answer("poisoned")),
    ]
}

#[tokio::test]
async fn d16_an_answer_that_nobody_asked_for_is_given_to_nobody() {
    for says in [one_too_many as Says, one_later] {
        let hostile = Hostile::start(says).await;
        assert_eq!(
            naive_second_answer(&hostile).await,
            answer("poisoned"),
            "a naive caller is fooled"
        );
        let world = World::with(Script::answer(1, 1), |assignment| hostile.serve(assignment)).await;
        for _ in 0..20 {
            let mut connection = world.plain_model().await;
            let answer = connection
                .post("/v1/chat/completions", &[], &chat(&json!({})))
                .await;
            // Who notices in the middle of a call may end it; it then counts as perhaps spent.
            let is_whole = answer.status == 200 && answer.text().contains("asked for");
            assert!(is_whole || answer.status == 502, "{}", answer.text());
            assert!(!answer.text().contains("poisoned"), "{}", answer.text());
            // What comes after the next request has gone out is its answer, whoever reads it.
            eventually(async || hostile.is_silent()).await;
        }
        let ledger = world.settled_ledger().await;
        assert_eq!(ledger.requests, 20);
        assert!(ledger.settled.pico() <= 20 * 120_000_000);
    }
}

/// Asks twice on one connection and takes whatever comes.
async fn naive_second_answer(hostile: &Hostile) -> Vec<u8> {
    let mut stream = dial(hostile.address, MODEL_HOST, &hostile.root_pem)
        .await
        .unwrap();
    let mut said = vec![0; answer("asked for").len()];
    for _ in 0..2 {
        stream
            .write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        said.resize(
            answer(if said[0] == 0 { "asked for" } else { "poisoned" }).len(),
            0,
        );
        stream.read_exact(&mut said).await.unwrap();
    }
    said
}

/// A document of so many MiB whose usage comes last.
fn long(mebibytes: usize) -> Vec<(Duration, Vec<u8>)> {
    let text = "x".repeat(mebibytes << 20);
    let body = format!(
        r#"{{"model":"test/small","choices":[{{"message":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":100,"completion_tokens":10}}}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    at_once([head.into_bytes(), body.into_bytes()].concat())
}

#[tokio::test]
async fn h11_the_bill_at_the_end_of_a_long_answer_is_read_and_beyond_all_reading_the_whole_amount_counts() {
    let usage = b"\"usage\"";
    // A buffer of five MiB, as another system has, never sees it.
    assert!(
        !long(6)[0].1[..5 << 20]
            .windows(usage.len())
            .any(|part| part == usage)
    );
    for (says, is_read) in [((|_| long(6)) as Says, true), (|_| long(9), false)] {
        let hostile = Hostile::start(says).await;
        let world = World::with(Script::answer(1, 1), |assignment| hostile.serve(assignment)).await;
        let mut connection = world.plain_model().await;
        let answer = connection
            .post("/v1/chat/completions", &[], &chat(&json!({})))
            .await;
        assert!(answer.status == 200 && answer.body.len() > 6 << 20);
        let ledger = world.settled_ledger().await;
        if is_read {
            assert_eq!(
                (ledger.settled.to_string().as_str(), ledger.unresolved),
                ("0.00012", PicoUsd::ZERO)
            );
        } else {
            assert_eq!(ledger.settled, PicoUsd::ZERO);
            assert!(ledger.unresolved > "0.00012".parse().unwrap(), "{ledger:?}");
        }
    }
}

/// A stream of these events, each after a pause.
fn stream(pause: Duration, events: &[serde_json::Value]) -> Vec<(Duration, Vec<u8>)> {
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
    let told = events.iter().map(|event| format!("data: {event}\n\n"));
    let told = told.chain(["data: [DONE]\n\n".to_owned()]).map(chunk);
    let mut pieces = vec![(Duration::ZERO, head)];
    pieces.extend(told.map(|piece| (pause, piece)));
    pieces.push((Duration::ZERO, b"0\r\n\r\n".to_vec()));
    pieces
}

fn word() -> serde_json::Value {
    json!({"model": "test/small", "choices": [{"delta": {"content": "word"}}]})
}

/// A stream with half a second before each of its five events.
fn halting(_: usize) -> Vec<(Duration, Vec<u8>)> {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
    stream(Duration::from_millis(500), &[word(), word(), word(), usage])
}

#[tokio::test]
async fn j5_a_stream_has_no_end_in_time_but_the_silence_that_the_policy_allows() {
    let hostile = Hostile::start(halting).await;
    let streamed = chat(&json!({"stream": true}));
    // Who gives the whole of an answer a second, as others do, has none; who knows no limit sits through every silence.
    let whole = timeout(Duration::from_secs(1), hostile.call(&streamed)).await;
    assert!(whole.is_err(), "an answer that takes longer is lost");
    assert_eq!(hostile.call(&streamed).await.text().matches("word").count(), 3);
    for (silence_ms, words) in [(2_000, 3), (100, 0)] {
        let world = World::with(Script::answer(1, 1), |assignment| {
            hostile.serve(assignment);
            let purse = assignment.purses.get_mut(&EgressPhase::Agent).unwrap();
            purse.silence_ms = silence_ms;
        })
        .await;
        let mut connection = world.plain_model().await;
        let answer = connection.post("/v1/chat/completions", &[], &streamed).await;
        assert_eq!(answer.text().matches("word").count(), words, "{silence_ms}");
        let ledger = world.settled_ledger().await;
        let is_known = ledger.unresolved == PicoUsd::ZERO && ledger.settled > PicoUsd::ZERO;
        assert_eq!(is_known, words > 0, "{ledger:?}");
    }
}

/// What a router says in the middle of an answer that it began with 200.
fn error(usage: &serde_json::Value) -> serde_json::Value {
    let error = json!({"code": 502, "message": "the provider went away"});
    let mut event =
        json!({"model": "test/small", "error": error, "choices": [{"finish_reason": "error", "delta": {}}]});
    if !usage.is_null() {
        event["usage"] = usage.clone();
    }
    event
}

fn breaking(_: usize) -> Vec<(Duration, Vec<u8>)> {
    stream(Duration::ZERO, &[word(), error(&serde_json::Value::Null)])
}

fn breaking_with_a_bill(_: usize) -> Vec<(Duration, Vec<u8>)> {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
    stream(Duration::ZERO, &[word(), error(&usage)])
}

#[tokio::test]
async fn h12_an_answer_that_fails_in_its_middle_is_no_answer_and_not_free() {
    let streamed = chat(&json!({"stream": true}));
    for (says, has_bill) in [(breaking as Says, false), (breaking_with_a_bill, true)] {
        let hostile = Hostile::start(says).await;
        // Who goes by the status has been served well, and the agent is to blame for what it made of that.
        let mut naive = NaiveBook::default();
        naive.take(&hostile.call(&streamed).await);
        assert!(!naive.ledger().was_provider_down(), "{naive:?}");
        assert!(
            has_bill || naive.ledger().cost_max() == PicoUsd::ZERO,
            "{naive:?}"
        );

        let world = World::with(Script::answer(1, 1), |assignment| hostile.serve(assignment)).await;
        let mut connection = world.plain_model().await;
        let answer = connection.post("/v1/chat/completions", &[], &streamed).await;
        assert!(answer.status == 200 && answer.text().contains("went away"));
        let ledger = world.settled_ledger().await;
        assert_eq!((ledger.answers, ledger.provider_failures), (0, 1));
        assert!(ledger.was_provider_down());
        let (settled, unresolved) = (ledger.settled, ledger.unresolved);
        let is_billed = settled > PicoUsd::ZERO && unresolved == PicoUsd::ZERO;
        let is_held = settled == PicoUsd::ZERO && unresolved > PicoUsd::ZERO;
        assert!(if has_bill { is_billed } else { is_held }, "{ledger:?}");
    }
}

/// A good answer, packed although nobody asked for that. The bytes are those of a gzip file's beginning.
fn packed(_: usize) -> Vec<(Duration, Vec<u8>)> {
    let body = b"\x1f\x8b\x08\0\0\0\0\0packed";
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    at_once([head.into_bytes(), body.to_vec()].concat())
}

#[tokio::test]
async fn an_answer_that_is_packed_without_being_asked_for_is_no_answer_and_not_free() {
    let hostile = Hostile::start(packed).await;
    let straight = hostile.call(&chat(&json!({}))).await;
    assert!(straight.status == 200 && straight.text().contains("packed"));
    let world = World::with(Script::answer(1, 1), |assignment| hostile.serve(assignment)).await;
    let mut connection = world.plain_model().await;
    let answer = connection
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (502, &json!("upstream_error"))
    );
    let ledger = world.settled_ledger().await;
    assert_eq!((ledger.answers, ledger.provider_failures), (0, 1));
    assert!(ledger.unresolved > PicoUsd::ZERO, "{ledger:?}");
}
