//! The service itself: TLS, HTTP/1.1, `POST …/chat/completions`, `POST …/messages`, `GET /bill`.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use assay_core::{price::PriceTable, upstream::Dialect};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{
    answer::{self, Answer},
    bill::{Bill, Charge, Desk, number},
    heard::{Ear, Heard},
    messages,
    script::{Fault, Script},
    tls,
};

/// How the service is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The names of its certificate.
    pub names: Vec<String>,
    /// How it speaks.
    pub dialect: Dialect,
    /// How it speaks by others of its names.
    pub dialects: BTreeMap<String, Dialect>,
    /// The key that it wants, as a bearer token or as an API key.
    pub key: String,
    /// What its models cost.
    pub prices: PriceTable,
    /// What it answers.
    pub script: Script,
    /// Time between the pieces of a stream.
    pub pace: Duration,
}

impl Settings {
    fn is_opened_by(&self, headers: &HeaderMap) -> bool {
        let shown = |name: &str| headers.get(name).map(header::HeaderValue::as_bytes);
        let bearer = format!("Bearer {}", self.key);
        shown("authorization") == Some(bearer.as_bytes()) || shown("x-api-key") == Some(self.key.as_bytes())
    }

    fn dialect_by(&self, headers: &HeaderMap) -> Dialect {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let dialect = host.and_then(|host| self.dialects.get(host));
        dialect.copied().unwrap_or(self.dialect)
    }
}

/// A running service. Dropped, it ends.
#[derive(Debug)]
pub struct Model {
    /// Where it answers.
    pub address: SocketAddr,
    /// The root that callers have to trust, PEM.
    pub root_pem: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    desk: Desk,
    ear: Ear,
    /// Closed once held streams may go on.
    gate: Semaphore,
}

type Body = BoxBody<Bytes, std::io::Error>;

/// Which API was asked.
#[derive(Debug, Clone, Copy)]
enum Form {
    Chat,
    Messages,
}

impl Form {
    fn at(method: &Method, path: &str) -> Option<Self> {
        let forms = [
            ("/v1/chat/completions", Self::Chat),
            ("/v1/messages", Self::Messages),
        ];
        let found = forms.into_iter().find(|(end, _)| path.ends_with(end));
        found.filter(|_| method == Method::POST).map(|(_, form)| form)
    }

    fn body(self, answer: &Answer, request: &answer::Request, dialect: Dialect, id: &str) -> Value {
        match self {
            Self::Chat => answer.body(request, dialect, id),
            Self::Messages => messages::body(answer, request, dialect, id),
        }
    }

    fn events(self, answer: &Answer, request: &answer::Request, dialect: Dialect, id: &str) -> Vec<Bytes> {
        match self {
            Self::Chat => answer.events(request, dialect, id),
            Self::Messages => messages::events(answer, request, dialect, id),
        }
    }
}

impl Model {
    /// Starts a service.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let identity = tls::identity(&settings.names)?;
        let listener = TcpListener::bind(settings.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            settings,
            desk: Desk::default(),
            ear: Ear::default(),
            gate: Semaphore::new(0),
        });
        let server = tokio::spawn(accept(
            listener,
            TlsAcceptor::from(identity.config),
            Arc::clone(&shared),
        ));
        Ok(Self {
            address,
            root_pem: identity.root_pem,
            shared,
            server,
        })
    }

    /// What was charged so far.
    pub fn bill(&self) -> Bill {
        self.shared.desk.bill()
    }

    /// Every charged answer, by its name.
    pub fn generations(&self) -> BTreeMap<String, Charge> {
        self.shared.desk.generations()
    }

    /// How many answers it tells nobody the bills of.
    pub fn unbilled(&self) -> usize {
        self.shared.desk.quiet()
    }

    /// The last request for an answer.
    pub fn heard(&self) -> Option<Heard> {
        self.shared.ear.last()
    }

    /// Lets held streams go on to their ends.
    pub fn go_on(&self) {
        self.shared.gate.close();
    }

    /// Waits for ever.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        (&mut self.server).await.context("the service ended")
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // As services do: the pieces of a stream wait for no acknowledgement.
                drop(stream.set_nodelay(true));
                tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await else {
        return;
    };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(handle(&shared, request).await) }
    });
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_mins(1));
    // A caller that goes away in the middle is its own business.
    protocol
        .serve_connection(TokioIo::new(stream), service)
        .await
        .unwrap_or_default();
}

async fn handle(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET && path == "/bill" {
        return json_answer(StatusCode::OK, &json!(shared.desk.bill()));
    }
    if !shared.settings.is_opened_by(request.headers()) {
        return refusal(StatusCode::UNAUTHORIZED, "wrong key");
    }
    if request.method() == Method::GET
        && let Some((_, workspace)) = path.split_once("/v1/workspaces/")
    {
        return settings(workspace);
    }
    if request.method() == Method::GET && path.ends_with("/v1/generation") {
        return generation(shared, request.uri().query().unwrap_or_default()).await;
    }
    let Some(form) = Form::at(request.method(), &path) else {
        return refusal(StatusCode::NOT_FOUND, "no such path");
    };
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request is too long or broke off",
            );
        }
    };
    let dialect = shared.settings.dialect_by(&head.headers);
    shared.ear.hear(head.headers, &body);
    match serde_json::from_slice::<answer::Request>(&body) {
        Ok(request) => complete(shared, &request, form, dialect).await,
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn complete(
    shared: &Arc<Shared>,
    request: &answer::Request,
    form: Form,
    dialect: Dialect,
) -> Response<Body> {
    let user = request.user.clone().unwrap_or_default();
    let fault = Fault::asked_for(&request.last_user_message());
    match fault {
        Some(Fault::TooManyRequests) => {
            shared.desk.fault(&user);
            let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests");
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            return response;
        }
        Some(Fault::ServerError) => {
            shared.desk.fault(&user);
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the service failed");
        }
        Some(Fault::Overloaded) => {
            shared.desk.fault(&user);
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "the service is overloaded");
        }
        Some(Fault::Silence) => {
            shared.desk.fault(&user);
            return std::future::pending().await;
        }
        Some(
            Fault::BilledError
            | Fault::HalfBody
            | Fault::CutStream
            | Fault::LateBill
            | Fault::Held
            | Fault::Long(_),
        )
        | None => {}
    }
    let settings = &shared.settings;
    let Some(answer) = request.answer(&settings.script, &settings.prices) else {
        return refusal(
            StatusCode::BAD_REQUEST,
            &format!("{} is no model of this service", request.model),
        );
    };
    // Charged when it begins: a caller that hangs up has still used the model.
    let id = shared.desk.charge(&user, answer.charge);
    let mut response = if fault == Some(Fault::BilledError) {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "the service failed at the end")
    } else if request.stream {
        let events = form.events(&answer, request, dialect, &id);
        if fault == Some(Fault::LateBill) {
            shared.desk.keep_quiet(&id);
        }
        stream(shared, events, fault)
    } else {
        let body = form.body(&answer, request, dialect, &id);
        if fault == Some(Fault::HalfBody) {
            half(&body)
        } else {
            json_answer(StatusCode::OK, &body)
        }
    };
    if dialect == Dialect::OpenRouter
        && let Ok(name) = header::HeaderValue::try_from(id)
    {
        response.headers_mut().insert("x-generation-id", name);
    }
    response
}

/// The settings of a workspace; the one named `private` keeps nothing.
fn settings(workspace: &str) -> Response<Body> {
    let settings = json!({ "data": {
        "id": workspace, "is_observability_io_logging_enabled": workspace != "private",
        "is_observability_broadcast_enabled": false, "is_data_discount_logging_enabled": false,
    } });
    json_answer(StatusCode::OK, &settings)
}

/// The bill of one answer, as the router tells it afterwards.
async fn generation(shared: &Shared, query: &str) -> Response<Body> {
    let name = query.strip_prefix("id=").unwrap_or_default();
    if !shared.desk.tells(name) {
        return std::future::pending().await;
    }
    let Some(charge) = shared.desk.generation(name) else {
        return refusal(StatusCode::NOT_FOUND, "no such generation");
    };
    let told = json!({ "data": {
        "id": name, "total_cost": number(charge.fee.unwrap_or(charge.cost)), "is_byok": charge.fee.is_some(),
        "upstream_inference_cost": charge.fee.map(|fee| number(charge.cost.saturating_sub(fee))),
        "native_tokens_prompt": charge.input_tokens, "native_tokens_completion": charge.output_tokens,
    } });
    json_answer(StatusCode::OK, &told)
}

fn stream(shared: &Arc<Shared>, mut events: Vec<Bytes>, fault: Option<Fault>) -> Response<Body> {
    let half = matches!(fault, Some(Fault::CutStream | Fault::LateBill));
    if half {
        events.truncate(events.len() / 2);
    }
    let shared = Arc::clone(shared);
    let frames = futures_util::stream::iter(events.into_iter().enumerate()).then(move |(number, event)| {
        let shared = Arc::clone(&shared);
        async move {
            if fault == Some(Fault::Held) && number > 0 {
                // An error is the word to go on.
                drop(shared.gate.acquire().await);
            }
            tokio::time::sleep(shared.settings.pace).await;
            Ok(Frame::data(event))
        }
    });
    let end = futures_util::stream::iter(half.then_some(fault)).then(async |fault| {
        if fault == Some(Fault::LateBill) {
            return std::future::pending().await;
        }
        broken("cut on request").await
    });
    let paced = frames.chain(end);
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(paced)));
    let kind = header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The announced length is the whole body's, and half of it is sent.
fn half(body: &Value) -> Response<Body> {
    let whole = Bytes::from(body.to_string());
    let length = header::HeaderValue::from(whole.len());
    let first = whole.slice(..whole.len() / 2);
    let frames = futures_util::stream::iter([Ok(Frame::data(first))]);
    let frames = frames.chain(futures_util::stream::once(broken("half on request")));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Ends a body early. What came before gets the time to leave the house.
async fn broken(why: &'static str) -> Result<Frame<Bytes>, std::io::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Err(std::io::Error::other(why))
}

fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    json_answer(
        status,
        &json!({ "error": { "message": message, "code": status.as_u16() } }),
    )
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Far more than the proxy lets through.
const MOST_BYTES: usize = 64 << 20;
