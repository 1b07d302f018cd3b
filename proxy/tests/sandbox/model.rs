//! A model service that answers by a script, over TLS, and remembers what it was sent.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::{
    shapes::{self, Said, Shape},
    world::{Connection, MODEL_HOST, tls},
};

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    kind: Kind,
    usage: (u64, u64),
    model: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Answer,
    ByLength,
    Cut,
    Slow,
    Error(u16),
    Named(u16),
    Flagged,
    Flaky(usize, u16),
    Echo(u16),
    Leak,
    Hangup,
    Dearer,
}

impl Script {
    fn new(kind: Kind, input: u64, output: u64) -> Self {
        Self {
            kind,
            usage: (input, output),
            model: "test/small",
        }
    }

    /// A good answer with this usage, whole or as a stream.
    pub(crate) fn answer(input: u64, output: u64) -> Self {
        Self::new(Kind::Answer, input, output)
    }

    /// A good answer whose usage is a token for every four bytes of the request, as of prose.
    pub(crate) fn by_length() -> Self {
        Self::new(Kind::ByLength, 0, 1)
    }

    /// A stream that breaks before its usage, named `gen-1`; its cost is told afterwards, once the test says so.
    pub(crate) fn cut() -> Self {
        Self::new(Kind::Cut, 0, 0)
    }

    /// An answer that waits until the test says so.
    pub(crate) fn slow(input: u64, output: u64) -> Self {
        Self::new(Kind::Slow, input, output)
    }

    /// An error with this status.
    pub(crate) fn error(status: u16) -> Self {
        Self::new(Kind::Error(status), 0, 0)
    }

    /// An error with this status to an answer that it bills all the same, and names `gen-1`; see [`Self::cut`].
    pub(crate) fn billed_error(status: u16) -> Self {
        Self::new(Kind::Named(status), 0, 0)
    }

    /// A router's word on an input that a provider flags.
    pub(crate) fn flagged() -> Self {
        Self::new(Kind::Flagged, 0, 0)
    }

    /// So many errors with this status, then good answers.
    pub(crate) fn flaky(errors: usize, status: u16) -> Self {
        Self::new(Kind::Flaky(errors, status), 100, 10)
    }

    /// Connections that end without an answer.
    pub(crate) fn hangup() -> Self {
        Self::new(Kind::Hangup, 0, 0)
    }

    /// An error that repeats the request's headers.
    pub(crate) fn echo(status: u16) -> Self {
        Self::new(Kind::Echo(status), 0, 0)
    }

    /// A good answer whose text, and a header of it, repeat the credential.
    pub(crate) fn leak() -> Self {
        Self::new(Kind::Leak, 100, 10)
    }

    /// Good answers at twice the price of the table, for whoever names no highest price; none for who does.
    pub(crate) fn dearer() -> Self {
        Self::new(Kind::Dearer, 100, 10)
    }

    /// Answers in the name of another model.
    pub(crate) fn named(self, model: &'static str) -> Self {
        Self { model, ..self }
    }
}

/// A request, whatever it was: its method, its path with the query, and its body, `null` where that is no JSON.
pub(crate) type Arrival = (String, String, Value);

/// What it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    headers: HeaderMap,
    /// Where to.
    pub(crate) path: String,
    /// The body.
    pub(crate) body: Value,
}

impl Seen {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The running service.
pub(crate) struct Model {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its certificate, which is its own root.
    pub(crate) root_pem: String,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    arrivals: Mutex<Vec<Arrival>>,
    requests: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    resumed: AtomicUsize,
    gate: Semaphore,
}

impl Model {
    /// Starts it under these names.
    pub(crate) async fn start(names: &[&str], script: Script) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let root_pem = certificate.pem();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            arrivals: Mutex::default(),
            requests: Mutex::new(Vec::new()),
            connections: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self {
            address,
            root_pem,
            shared,
        }
    }

    /// What it was sent so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Everything that arrived so far.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of these went on with an earlier TLS session.
    pub(crate) fn resumed(&self) -> usize {
        self.shared.resumed.load(Ordering::SeqCst)
    }

    /// A connection to it with nobody in between.
    pub(crate) async fn connect(&self) -> Connection {
        tls(self.address, MODEL_HOST, &self.root_pem).await.unwrap()
    }

    /// Lets slow answers go on.
    pub(crate) fn go_on(&self) {
        self.shared.gate.close();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                shared.resumed.fetch_add(1, Ordering::SeqCst);
            }
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    shared.arrivals.lock().unwrap().push((
        parts.method.to_string(),
        parts.uri.to_string(),
        serde_json::from_slice(&bytes).unwrap_or_default(),
    ));
    if path.ends_with("/generation") {
        return Ok(told_afterwards(&shared, parts.uri.query()));
    }
    let Some(shape) = shapes::of(&path) else {
        return Ok(response(404, "text/plain", vec![Ok("nothing here".to_owned())]));
    };
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let stream = body["stream"] == true;
    let highest = body["provider"]["max_price"].clone();
    let count = {
        let mut requests = shared.requests.lock().unwrap();
        requests.push(Seen {
            headers: parts.headers.clone(),
            path,
            body,
        });
        requests.len()
    };
    let Script {
        kind,
        mut usage,
        model,
    } = shared.script;
    if kind == Kind::ByLength {
        usage.0 = bytes.len() as u64 / 4;
    }
    if kind == Kind::Slow {
        drop(shared.gate.acquire().await);
    }
    let credential = parts
        .headers
        .get("authorization")
        .map_or("", |value| value.to_str().unwrap());
    let said = Said {
        text: if kind == Kind::Leak {
            credential
        } else {
            "scripted"
        },
        usage,
        model,
    };
    Ok(match kind {
        Kind::Hangup => return Err(std::io::ErrorKind::ConnectionReset.into()),
        Kind::Error(status) => error(status, "scripted error"),
        Kind::Named(status) => with_header(error(status, "scripted error"), "x-generation-id", "gen-1"),
        Kind::Flagged => flagged(),
        Kind::Flaky(errors, status) if count <= errors => error(status, "scripted error"),
        Kind::Echo(status) => error(status, credential),
        Kind::Dearer => dearer(shape, &said, &highest),
        Kind::Cut => {
            let first = shapes::events(shape, &said).remove(1);
            with_header(broken_after(first), "x-generation-id", "gen-1")
        }
        Kind::Leak => with_header(good(shape, &said, stream), "request-id", credential),
        Kind::Answer | Kind::ByLength | Kind::Slow | Kind::Flaky(..) => good(shape, &said, stream),
    })
}

fn good(shape: Shape, said: &Said<'_>, stream: bool) -> Response<Body> {
    if stream {
        let events = shapes::events(shape, said).into_iter().map(Ok);
        response(200, "text/event-stream", events.collect())
    } else {
        let whole = shapes::whole(shape, said).to_string();
        response(200, "application/json", vec![Ok(whole)])
    }
}

fn flagged() -> Response<Body> {
    let details = json!({"reasons": ["violence"], "flagged_input": "..."});
    let flagged = json!({"error": {"code": 403, "message": "flagged", "metadata": details}});
    response(403, "application/json", vec![Ok(flagged.to_string())])
}

fn with_header(mut response: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}

/// The only provider that is left has doubled its prices. Highest prices are per million tokens.
fn dearer(shape: Shape, said: &Said<'_>, highest: &Value) -> Response<Body> {
    let most = |name: &str| highest[name].as_str().map(|text| text.parse::<f64>().unwrap());
    if most("prompt").is_some_and(|most| most < 2.0) || most("completion").is_some_and(|most| most < 4.0) {
        return error(404, "no provider at that price");
    }
    let mut whole = shapes::whole(shape, said);
    whole["usage"]["cost"] = json!(0.00024);
    response(200, "application/json", vec![Ok(whole.to_string())])
}

/// A stream that breaks once this has left the house.
fn broken_after(first: String) -> Response<Body> {
    let broken = futures_util::stream::once(async {
        // While it waits what came before is flushed.
        tokio::task::yield_now().await;
        Err(std::io::ErrorKind::BrokenPipe.into())
    });
    let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from(first)))]);
    let frames = futures_util::StreamExt::chain(first, broken);
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .unwrap()
}

/// Nobody knows before the test says so.
fn told_afterwards(shared: &Shared, query: Option<&str>) -> Response<Body> {
    if query != Some("id=gen-1") || !shared.gate.is_closed() {
        return error(404, "not known yet");
    }
    let told = json!({"data": {"id": "gen-1", "total_cost": 0.0005, "native_tokens_prompt": 300, "native_tokens_completion": 100}});
    response(200, "application/json", vec![Ok(told.to_string())])
}

fn error(status: u16, message: &str) -> Response<Body> {
    let error = json!({"error": {"message": message}});
    response(status, "application/json", vec![Ok(error.to_string())])
}

fn response(status: u16, content_type: &str, pieces: Vec<std::io::Result<String>>) -> Response<Body> {
    let frames = pieces
        .into_iter()
        .map(|piece| piece.map(|text| Frame::data(Bytes::from(text))));
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(
            frames,
        ))))
        .unwrap()
}
