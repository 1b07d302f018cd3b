//! A model service that answers by a script, over TLS, and remembers what it was sent.

use std::{
    convert::Infallible,
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

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    kind: Kind,
    usage: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Answer,
    Stream,
    Cut,
    Slow,
    Error(u16),
    Echo,
}

impl Script {
    fn new(kind: Kind, input: u64, output: u64) -> Self {
        Self {
            kind,
            usage: (input, output),
        }
    }

    /// A whole answer with this usage.
    pub(crate) fn answer(input: u64, output: u64) -> Self {
        Self::new(Kind::Answer, input, output)
    }

    /// A stream with this usage.
    pub(crate) fn stream(input: u64, output: u64) -> Self {
        Self::new(Kind::Stream, input, output)
    }

    /// A stream that breaks before its usage.
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

    /// An error that repeats the request's headers.
    pub(crate) fn echo() -> Self {
        Self::new(Kind::Echo, 0, 0)
    }
}

/// What it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    headers: HeaderMap,
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
    requests: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
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
            requests: Mutex::new(Vec::new()),
            connections: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let (serving, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| handle(Arc::clone(&serving), request));
                    drop(
                        http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
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

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Lets slow answers go on.
    pub(crate) fn go_on(&self) {
        self.shared.gate.close();
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    if !parts.uri.path().ends_with("/chat/completions") {
        return Ok(response(404, "text/plain", vec![Ok("nothing here".to_owned())]));
    }
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let stream = body["stream"] == true;
    shared.requests.lock().unwrap().push(Seen {
        headers: parts.headers.clone(),
        body,
    });
    let (input, output) = shared.script.usage;
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "cost": 0.0});
    let piece = json!({"choices": [{"delta": {"content": "scripted"}}]});
    let last = json!({"choices": [], "usage": usage});
    let whole =
        json!({"choices": [{"message": {"role": "assistant", "content": "scripted"}}], "usage": usage});
    let event = |value: &Value| Ok(format!("data: {value}\n\n"));
    let events = |events| response(200, "text/event-stream", events);
    let done = Ok("data: [DONE]\n\n".to_owned());
    if shared.script.kind == Kind::Slow {
        drop(shared.gate.acquire().await);
    }
    Ok(match shared.script.kind {
        Kind::Answer => response(200, "application/json", vec![Ok(whole.to_string())]),
        Kind::Slow if !stream => response(200, "application/json", vec![Ok(whole.to_string())]),
        Kind::Slow | Kind::Stream => {
            let comment = Ok(": PROCESSING\n\n".to_owned());
            events(vec![comment, event(&piece), event(&last), done])
        }
        Kind::Cut => events(vec![event(&piece), Err(std::io::ErrorKind::BrokenPipe.into())]),
        Kind::Error(status) => {
            let error = json!({"error": {"message": "scripted error"}});
            response(status, "application/json", vec![Ok(error.to_string())])
        }
        Kind::Echo => {
            let headers = format!(
                "{:?}",
                parts.headers.get("authorization").map(|value| value.to_str())
            );
            response(400, "application/json", vec![Ok(headers)])
        }
    })
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
