//! The HTTP side of the model path: the same for opened TLS hosts and for the plain port.

use std::{convert::Infallible, sync::Arc, time::Duration};

use assay_core::{
    control::proxy::{Purse, WorkloadUsage},
    egress::HostName,
    phase::EgressPhase,
    price::ModelSlug,
    upstream::Upstream,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::timeout,
};

use super::{
    answer::{self, Answer},
    exchange::Exchange,
    refusal::Refusal,
    request::Sent,
};
use crate::{
    audit::{Event, Kind},
    phase::Flow,
    serving::Serving,
};

/// Where a request came in.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// Through an opened TLS connection to this service.
    Opened(Arc<Upstream>),
    /// Through the plain port on loopback.
    Loopback,
}

/// Serves one connection until it ends or its phase does.
pub async fn serve<S>(serving: Arc<Serving>, flow: Arc<Flow>, entrance: Entrance, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let flow = Arc::clone(&flow);
        service_fn(move |request| {
            let call = Call {
                serving: Arc::clone(&serving),
                phase: flow.phase(),
                entrance: entrance.clone(),
            };
            async move { Ok::<_, Infallible>(call.handle(request).await) }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_CONNECTION)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = flow.cut() => {}
        // cancel-safe: when the flow is cut the connection is dropped on purpose.
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection of the workload ended");
        },
    }
}

struct Call {
    serving: Arc<Serving>,
    phase: EgressPhase,
    entrance: Entrance,
}

impl Call {
    async fn handle(self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let event = Event::deny(Kind::Model, self.phase, "").request(&parts.method, parts.uri.path());
        match self.route(&parts) {
            Ok(Wanted::Models) => answer::json(&self.models()),
            Ok(Wanted::Usage) => answer::json(&self.usage()),
            Ok(Wanted::Chat) => match self.chat(&parts, body, event.clone()).await {
                Ok(answer) => answer,
                Err((refusal, event)) => self.refuse(&refusal, event),
            },
            Err(refusal) => self.refuse(&refusal, event),
        }
    }

    fn refuse(&self, refusal: &Refusal, event: Event) -> Answer {
        let event = match &self.entrance {
            Entrance::Opened(upstream) => event.host(&upstream.host),
            Entrance::Loopback => event,
        };
        self.serving.account.count_refusal();
        self.serving
            .audit
            .write(event.reason(refusal.code).status(refusal.status));
        refusal.answer()
    }

    /// Exact paths only: no query, no escape, no doubled slash can match one.
    fn route(&self, parts: &Parts) -> Result<Wanted, Refusal> {
        check_form(parts)?;
        if let Entrance::Opened(upstream) = &self.entrance {
            check_host(parts, &upstream.host)?;
        }
        let path = parts.uri.path();
        let base = match &self.entrance {
            Entrance::Opened(upstream) => upstream.base_path.as_str(),
            Entrance::Loopback => "/v1",
        };
        let loopback = matches!(self.entrance, Entrance::Loopback);
        match (&parts.method, path.strip_prefix(base)) {
            (&Method::POST, Some("/chat/completions")) => Ok(Wanted::Chat),
            (&Method::GET, Some("/models")) => Ok(Wanted::Models),
            (&Method::GET, _) if loopback && matches!(path, "/usage" | "/v1/usage") => Ok(Wanted::Usage),
            _ => Err(Refusal::policy(
                "path_not_allowed",
                format!("Only POST {base}/chat/completions and GET {base}/models are allowed here."),
            )),
        }
    }

    async fn chat(&self, parts: &Parts, body: Incoming, event: Event) -> Result<Answer, (Refusal, Event)> {
        let told = |event: &Event| {
            let event = event.clone();
            move |refusal: Refusal| (refusal, event)
        };
        check_content(parts).map_err(told(&event))?;
        let purse = self.purse().map_err(told(&event))?;
        let slot = self.serving.bodies.acquire().await;
        let bytes = read(body).await.map_err(told(&event))?;
        let sent = Sent::read(&bytes).map_err(told(&event))?;
        drop(bytes);
        let event = event.model(sent.models().first());
        let upstream = self.upstream(&sent, purse).map_err(told(&event))?;
        let event = event.host(&upstream.host);
        let judged = sent
            .judge(&self.serving.policy, purse, &upstream)
            .map_err(told(&event))?;
        let first = judged.models.first().cloned().ok_or_else(|| {
            let refusal = Refusal::policy("model_missing", "The request names no model.");
            (refusal, event.clone())
        })?;
        let reservation = self
            .serving
            .account
            .reserve(self.phase, &first, &judged.ask)
            .map_err(|denied| (denied.into(), event.clone()))?;
        drop(slot);
        let (head, answered) = oneshot::channel();
        let exchange = Exchange {
            serving: Arc::clone(&self.serving),
            upstream,
            reservation,
            judged,
            event: event.allowed("forwarded"),
            silence: Duration::from_millis(purse.silence_ms),
        };
        self.serving.exchanges.spawn(exchange.run(head));
        Ok(answered.await.unwrap_or_else(|_| {
            Refusal::provider("upstream_broken", "The model service broke the connection.").answer()
        }))
    }

    fn purse(&self) -> Result<&Purse, Refusal> {
        self.serving
            .policy
            .purse(self.phase)
            .ok_or_else(|| Refusal::policy("no_models", "No model may be called in this phase."))
    }

    /// The service that the connection was opened to, or the one that serves the model.
    fn upstream(&self, sent: &Sent, purse: &Purse) -> Result<Arc<Upstream>, Refusal> {
        match &self.entrance {
            Entrance::Opened(upstream) => Ok(Arc::clone(upstream)),
            Entrance::Loopback => {
                let models = sent.models();
                let serves = |upstream: &&Arc<Upstream>| {
                    models
                        .iter()
                        .all(|model| purse.models.contains(model) && upstream.models.contains(model))
                };
                let mut hosts = self.serving.policy.model_hosts(self.phase);
                hosts.find(serves).map(Arc::clone).ok_or_else(|| {
                    let allowed: Vec<&str> = purse.models.iter().map(ModelSlug::as_str).collect();
                    Refusal::policy(
                        "model_not_allowed",
                        format!(
                            "This model is not allowed in this run. Allowed: {}.",
                            allowed.join(", ")
                        ),
                    )
                })
            }
        }
    }

    fn models(&self) -> serde_json::Value {
        let models = self.serving.policy.purse(self.phase).map(|purse| &purse.models);
        let entry = |model| json!({ "id": model, "object": "model", "created": 0, "owned_by": "assay" });
        let data: Vec<_> = models.into_iter().flatten().map(entry).collect();
        json!({ "object": "list", "data": data })
    }

    fn usage(&self) -> WorkloadUsage {
        let models = self.serving.policy.purse(self.phase).map(|purse| &purse.models);
        self.serving.account.read(|book| {
            let account = book.account(self.phase).cloned().unwrap_or_default();
            WorkloadUsage {
                budget_usd: account.grant().budget,
                settled_usd: account.settled(),
                held_usd: account.held(),
                remaining_usd: account.left(),
                remaining_requests: account.requests_left(),
                models: models.cloned().unwrap_or_default(),
            }
        })
    }
}

enum Wanted {
    Chat,
    Models,
    Usage,
}

/// Origin form without a query, and no change of protocol.
fn check_form(parts: &Parts) -> Result<(), Refusal> {
    let odd = |code, message: &str| Err(Refusal::policy(code, message));
    if parts.uri.authority().is_some() || parts.method == Method::CONNECT {
        return odd("form_not_allowed", "Only requests with a plain path are allowed.");
    }
    if parts.uri.query().is_some() {
        return odd("query_not_allowed", "No query is allowed in the path.");
    }
    if parts.headers.contains_key(header::UPGRADE) {
        return odd("upgrade_not_allowed", "No change of protocol is allowed.");
    }
    Ok(())
}

/// The name in the request must be the one that the connection was opened for.
fn check_host(parts: &Parts, host: &HostName) -> Result<(), Refusal> {
    let mut values = parts.headers.get_all(header::HOST).iter();
    let named = values
        .next()
        .and_then(|value| value.to_str().ok())
        .map(|value| value.strip_suffix(":443").unwrap_or(value));
    let same = named
        .and_then(|named| named.parse::<HostName>().ok())
        .is_some_and(|named| named == *host);
    if same && values.next().is_none() {
        return Ok(());
    }
    Err(Refusal::policy(
        "host_mismatch",
        "The Host header names another host than the connection.",
    )
    .with_status(StatusCode::MISDIRECTED_REQUEST))
}

/// Plain JSON, not compressed.
fn check_content(parts: &Parts) -> Result<(), Refusal> {
    let one = |name| {
        let mut values = parts.headers.get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        (first, values.next().is_none())
    };
    let (kind, single) = one(header::CONTENT_TYPE);
    let essence = kind.map(|kind| kind.to_ascii_lowercase().replace(' ', ""));
    if !single
        || !matches!(
            essence.as_deref(),
            Some("application/json" | "application/json;charset=utf-8")
        )
    {
        return Err(Refusal::policy(
            "content_type_not_allowed",
            "The content type must be application/json.",
        ));
    }
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        let (coding, single) = one(header::CONTENT_ENCODING);
        if !single || coding != Some("identity") {
            return Err(Refusal::policy(
                "content_encoding_not_allowed",
                "The body must not be compressed.",
            ));
        }
    }
    Ok(())
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = timeout(READ_BODY, Limited::new(body, MOST_BODY).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let message = "The body is larger than 16 MiB.";
            Err(Refusal::policy("body_too_large", message))
        }
        Ok(Err(_)) => Err(Refusal::policy("body_malformed", "The body was cut off.")),
        Err(_) => Err(Refusal::policy(
            "body_timeout",
            "The body did not arrive in time.",
        )),
    }
}

const MOST_BODY: usize = 16 * 1024 * 1024;
const MOST_HEAD: usize = 64 * 1024;
const READ_BODY: Duration = Duration::from_mins(1);
/// Software libraries keep connections for a minute.
const IDLE_CONNECTION: Duration = Duration::from_secs(90);
