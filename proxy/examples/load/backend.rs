//! The model service behind every peer: some bytes for GET, an answer or a stream of events for POST, and its own bill.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use assay_core::digest::Digest;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Interval, interval, sleep},
};
use tokio_rustls::TlsAcceptor;

use crate::{certificates, now_ns};

/// How it answers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// What `certify` made
    #[arg(long)]
    certificates: PathBuf,
    /// Events of one stream
    #[arg(long, default_value_t = 100)]
    events: u32,
    /// Between two events
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
    /// Before an answer
    #[arg(long, default_value_t = 0)]
    think_ms: u64,
    /// Output tokens of an answer, if the request allows them
    #[arg(long, default_value_t = 100)]
    output_tokens: u64,
}

/// What was answered so far.
#[derive(Debug, Default, Serialize)]
struct Bill {
    answers: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// The SHA-256 of what each stream consisted of, by its name.
    streams: BTreeMap<String, String>,
}

struct Backend {
    options: Options,
    bill: Mutex<Bill>,
}

/// What it reads of a request.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    stream: bool,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    messages: Vec<Message>,
}

#[derive(Debug, Deserialize)]
struct Message {
    content: String,
}

type Answer = Response<Either<Full<Bytes>, Events>>;

/// Serves until killed.
pub(crate) async fn serve(options: Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let acceptor = TlsAcceptor::from(certificates::server(&options.certificates)?);
    let bill = Mutex::default();
    let backend = Arc::new(Backend { options, bill });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(Arc::clone(&backend), acceptor.clone(), stream));
    }
}

/// A client that goes away is none of our business.
async fn connection(backend: Arc<Backend>, acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| {
        let backend = Arc::clone(&backend);
        async move { Ok::<_, Infallible>(backend.answer(request).await) }
    });
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

impl Backend {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        if request.method() == Method::GET {
            return match request.uri().path() {
                "/bill" => whole("application/json", self.told()),
                _ => whole("text/plain", Bytes::from_static(&[b'x'; PAGE])),
            };
        }
        let Ok(body) = request.into_body().collect().await else {
            return status(400);
        };
        let Ok(asked) = serde_json::from_slice::<Asked>(&body.to_bytes()) else {
            return status(400);
        };
        if self.options.think_ms > 0 {
            sleep(Duration::from_millis(self.options.think_ms)).await;
        }
        if asked.stream {
            return self.stream(asked);
        }
        let usage = self.book(&asked);
        whole(
            "application/json",
            format!(
                "{{\"id\":\"gen-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"test/small\",\
                 \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{TEXT}\"}},\
                 \"finish_reason\":\"stop\"}}],{usage}}}"
            ),
        )
    }

    /// Counts an answer; its usage as JSON.
    fn book(&self, asked: &Asked) -> String {
        let cap = asked
            .max_completion_tokens
            .or(asked.max_tokens)
            .unwrap_or(u64::MAX);
        let output = self.options.output_tokens.min(cap);
        let mut bill = self.bill.lock().unwrap_or_else(PoisonError::into_inner);
        bill.answers += 1;
        bill.input_tokens += INPUT_TOKENS;
        bill.output_tokens += output;
        format!(
            "\"usage\":{{\"prompt_tokens\":{INPUT_TOKENS},\"completion_tokens\":{output},\"total_tokens\":{}}}",
            INPUT_TOKENS + output
        )
    }

    fn told(&self) -> Vec<u8> {
        let bill = self.bill.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_vec(&*bill).unwrap_or_default()
    }

    fn stream(self: Arc<Self>, asked: Asked) -> Answer {
        let usage = self.book(&asked);
        let name = asked.messages.into_iter().last().map(|message| message.content);
        let events = Events {
            ticks: interval(Duration::from_millis(self.options.pause_ms)),
            left: self.options.events,
            end: Some(usage),
            name: name.unwrap_or_default(),
            sent: Vec::new(),
            backend: self,
        };
        let mut answer = Response::new(Either::Right(events));
        let kind = header::HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }
}

/// A stream of events, each with the time at which it was sent.
struct Events {
    backend: Arc<Backend>,
    ticks: Interval,
    left: u32,
    /// The usage, until it is told.
    end: Option<String>,
    name: String,
    sent: Vec<u8>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(context));
        let head = "data: {\"id\":\"gen-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"test/small\",";
        let text = if self.left > 0 {
            self.left -= 1;
            let at = now_ns();
            format!("{head}\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{at} \"}}}}]}}\n\n")
        } else if let Some(usage) = self.end.take() {
            format!("{head}\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n")
        } else {
            return Poll::Ready(None);
        };
        self.sent.extend_from_slice(text.as_bytes());
        if self.end.is_none() {
            let hash = Digest::of(&self.sent).hex();
            let mut bill = self.backend.bill.lock().unwrap_or_else(PoisonError::into_inner);
            bill.streams.insert(self.name.clone(), hash);
        }
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

fn whole(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    let kind = header::HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn status(code: u16) -> Answer {
    let mut answer = whole("text/plain", Bytes::new());
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    answer
}

/// Fewer than the bytes of any request of the benchmark, so that a reservation by bytes holds.
const INPUT_TOKENS: u64 = 100;
/// As much as a short model answer.
const PAGE: usize = 900;
const TEXT: &str = "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. \
The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. \
The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. \
The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. \
The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. \
The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.";
