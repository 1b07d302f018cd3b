//! The HTTP side of the model path: the same for opened TLS hosts and for the plain port.

use std::{convert::Infallible, sync::Arc, time::Duration};

use assay_core::{
    control::proxy::{Purse, WorkloadUsage},
    digest::Digest,
    ledger::{Refused, shared},
    price::ModelSlug,
    upstream::Upstream,
};
use bytes::Bytes;
use http::{Method, Request, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout,
};

use super::{
    answer::{self, Answer},
    exchange::Exchange,
    head::{check_content, check_form, check_host, check_upgrade},
    recorder::{Draft, Subject},
    refusal::Refusal,
    request::{Judged, Sent},
    spec::Api,
};
use crate::{
    account::Denied,
    audit::{Event, Kind},
    connection,
    phase::Flow,
    serving::Serving,
    waits::Wait,
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
                flow: Arc::clone(&flow),
                entrance: entrance.clone(),
            };
            async move { Ok::<_, Infallible>(call.handle(request).await) }
        })
    };
    connection::serve(stream, &flow, service).await;
}

struct Call {
    serving: Arc<Serving>,
    flow: Arc<Flow>,
    entrance: Entrance,
}

/// A request that is judged.
struct Admitted {
    upstream: Arc<Upstream>,
    judged: Judged,
    memory: OwnedSemaphorePermit,
    silence: Duration,
    /// The name of the request, where recordings need it.
    key: Option<Digest>,
}

impl Call {
    async fn handle(self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let mut event =
            Event::deny(Kind::Model, self.flow.phase(), "").request(&parts.method, parts.uri.path());
        let answered = match self.route(&parts) {
            Ok(Wanted::Models) => return answer::json(&self.models()),
            Ok(Wanted::Usage) => return answer::json(&self.usage()),
            Ok(Wanted::Call(api)) => self.call(api, &parts, body, &mut event).await,
            Err(refusal) => Err(refusal),
        };
        answered.unwrap_or_else(|refusal| self.refuse(&refusal, event))
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
        check_upgrade(parts, matches!(self.entrance, Entrance::Loopback))?;
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
            (&Method::POST, Some(rest)) if let Some(api) = Api::at(rest) => Ok(Wanted::Call(api)),
            (&Method::GET, Some("/models")) => Ok(Wanted::Models),
            (&Method::GET, _) if loopback && matches!(path, "/usage" | "/v1/usage") => Ok(Wanted::Usage),
            _ => {
                let paths = Api::ALL.map(|api| format!("{base}{}", api.spec().path));
                Err(Refusal::policy(
                    "path_not_allowed",
                    format!(
                        "Only POST {} and GET {base}/models are allowed here.",
                        paths.join(", ")
                    ),
                ))
            }
        }
    }

    async fn call(
        &self,
        api: Api,
        parts: &Parts,
        body: Incoming,
        event: &mut Event,
    ) -> Result<Answer, Refusal> {
        let Admitted {
            upstream,
            judged,
            memory,
            silence,
            key,
        } = self.judge(api, parts, body, event).await?;
        if self.serving.audit.begin(event).is_err() {
            return Err(Refusal::unwritable());
        }
        let reserved = match judged.models.first() {
            Some(first) => {
                self.serving
                    .account
                    .admit(self.flow.phase(), first, &judged.ask)
                    .await
            }
            None => Err(Denied::Book(shared::Denied::Refused(Refused::NoPurse))),
        };
        let reservation = reserved?;
        if let (Some(replay), Some(key)) = (&self.serving.replay, key) {
            let (answer, bill) = replay.answer((self.flow.phase(), key), reservation)?;
            let event = event.clone().allowed("replayed").status(answer.status());
            let tokens = (bill.input_tokens, bill.output_tokens);
            self.serving.audit.write(event.bill(bill.cost, tokens));
            return Ok(answer);
        }
        let draft = self.draft(&judged, &upstream, key);
        let (head, answered) = oneshot::channel();
        let exchange = Exchange {
            serving: Arc::clone(&self.serving),
            flow: Arc::clone(&self.flow),
            upstream,
            judged,
            event: event.clone().allowed("forwarded"),
            memory,
            silence,
            draft,
        };
        let serving = Arc::clone(&self.serving);
        self.serving.exchanges.spawn(async move {
            let call = exchange.run(reservation, head);
            serving.waits.measure(Wait::ModelCall, call).await;
        });
        Ok(answered.await.unwrap_or_else(|_| {
            Refusal::provider("upstream_broken", "The model service broke the connection.").answer()
        }))
    }

    fn draft(&self, judged: &Judged, upstream: &Upstream, key: Option<Digest>) -> Option<Draft> {
        let recorder = self.serving.recorder.as_ref()?;
        Some(recorder.begin(Subject {
            stage: self.flow.stage(),
            api: judged.api,
            host: upstream.host.clone(),
            model: judged.models.first()?.clone(),
            key: key?,
        }))
    }

    /// Reads and judges the body. Few are in memory at the same time.
    async fn judge(
        &self,
        api: Api,
        parts: &Parts,
        body: Incoming,
        event: &mut Event,
    ) -> Result<Admitted, Refusal> {
        check_content(parts)?;
        let purse = self.purse()?;
        let slot = self.serving.bodies.acquire().await;
        let bytes = read(body).await?;
        let kibibytes = u32::try_from(bytes.len() / 1024 + 1).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.serving.memory)
            .acquire_many_owned(kibibytes)
            .await;
        let memory = memory.map_err(|_| Refusal::policy("ending", "The proxy ends."))?;
        let sent = Sent::read(api, &bytes)?;
        drop(bytes);
        event.set_model(sent.models().first());
        let upstream = self.upstream(api, &sent, purse)?;
        event.set_host(&upstream.host);
        let is_named = self.serving.recorder.is_some() || self.serving.replay.is_some();
        let key = is_named.then(|| sent.key());
        let judged = sent.judge(&self.serving.policy, purse, &upstream)?;
        drop(slot);
        Ok(Admitted {
            upstream,
            judged,
            memory,
            silence: Duration::from_millis(purse.silence_ms),
            key,
        })
    }

    fn purse(&self) -> Result<&Purse, Refusal> {
        self.serving
            .policy
            .purse(self.flow.phase())
            .ok_or_else(|| Refusal::policy("no_models", "No model may be called in this phase."))
    }

    /// The service that the connection was opened to, or one that serves the models by this API.
    fn upstream(&self, api: Api, sent: &Sent, purse: &Purse) -> Result<Arc<Upstream>, Refusal> {
        if let Entrance::Opened(upstream) = &self.entrance {
            return Ok(Arc::clone(upstream));
        }
        let serves = |upstream: &&Arc<Upstream>| {
            let mut models = sent.models().iter();
            models.all(|model| purse.models.contains(model) && upstream.models.contains(model))
        };
        let hosts: Vec<_> = self
            .serving
            .policy
            .model_hosts(self.flow.phase())
            .filter(serves)
            .collect();
        let speaks = hosts.iter().find(|upstream| api.is_spoken_by(upstream.dialect));
        speaks
            .or(hosts.first())
            .map(|upstream| Arc::clone(upstream))
            .ok_or_else(|| {
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

    /// The policy's models, in the form of OpenAI and Anthropic at once.
    fn models(&self) -> serde_json::Value {
        let models = self
            .serving
            .policy
            .purse(self.flow.phase())
            .map(|purse| &purse.models);
        let entry = |model: &ModelSlug| {
            json!({
                "id": model, "object": "model", "created": 0, "owned_by": "assay",
                "type": "model", "display_name": model, "created_at": "1970-01-01T00:00:00Z",
            })
        };
        let data: Vec<_> = models.into_iter().flatten().map(entry).collect();
        json!({ "object": "list", "data": data, "has_more": false })
    }

    fn usage(&self) -> WorkloadUsage {
        let models = self
            .serving
            .policy
            .purse(self.flow.phase())
            .map(|purse| &purse.models);
        self.serving.account.read(|book| {
            let account = book.account(self.flow.phase()).cloned().unwrap_or_default();
            WorkloadUsage {
                budget_usd: account.grant().budget,
                settled_usd: account.settled(),
                held_usd: account.reserved(),
                unresolved_usd: account.unresolved(),
                remaining_usd: account.left(),
                remaining_requests: account.requests_left(),
                models: models.cloned().unwrap_or_default(),
            }
        })
    }
}

enum Wanted {
    Call(Api),
    Models,
    Usage,
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
const READ_BODY: Duration = Duration::from_mins(1);
