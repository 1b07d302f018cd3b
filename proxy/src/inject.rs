//! Hosts that get secret values: requests pass through with their placeholders replaced, answers without the values.
//!
//! The workload holds a placeholder, which is worth nothing elsewhere. It is replaced in one header of requests to one
//! host ([`request`]), and wherever the host repeats the value in an answer it is blanked ([`answer`]). For that, answers are
//! asked for uncompressed and whole.

mod answer;
mod request;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use assay_core::{clock::Clock, control::proxy::ProxyAssignment, egress::HostName, secret::Injection};
use http::{Request, Response, request::Parts};
use hyper::{
    body::Incoming,
    client::conn::http1::{self as client, SendRequest},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::CryptoProvider};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Mutex,
    time::timeout,
};

use crate::{
    audit::{Event, Kind},
    connection, dial,
    model::{answer::Answer, refusal::Refusal, scrub::Secrets, upstream},
    phase::Flow,
    route::Policy,
    serving::Serving,
};

/// How to reach each of these hosts, and what must not come back from it.
#[derive(Debug)]
pub struct Guarded(BTreeMap<HostName, Host>);

#[derive(Debug)]
struct Host {
    tls: Arc<ClientConfig>,
    secrets: Arc<Secrets>,
}

impl Guarded {
    /// Trusts the public roots, and the operator's extra root for hosts with a fixed address.
    pub fn new(
        assignment: &ProxyAssignment,
        policy: &Policy,
        (provider, clock): (&Arc<CryptoProvider>, &Arc<dyn Clock>),
    ) -> Result<Self, upstream::Error> {
        let host = |(name, injections): (&HostName, &Arc<[Injection]>)| {
            let is_fixed = assignment.fixed_addresses.contains_key(name);
            let extra = assignment.extra_roots_pem.iter().filter(|_| is_fixed);
            let host = Host {
                tls: Arc::new(upstream::config(name, extra, (provider, clock))?),
                secrets: Arc::new(Secrets::of_all(injections.iter().map(|one| one.value.expose()))),
            };
            Ok((name.clone(), host))
        };
        policy.injected().map(host).collect::<Result<_, _>>().map(Self)
    }
}

/// Serves one connection until it ends or its phase does.
pub async fn serve<S>(
    serving: Arc<Serving>,
    flow: Arc<Flow>,
    (host, injections): (HostName, Arc<[Injection]>),
    stream: S,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let passage = Arc::new(Passage {
        serving,
        flow: Arc::clone(&flow),
        host,
        injections,
        link: Mutex::new(None),
    });
    let service = service_fn(move |request| {
        let passage = Arc::clone(&passage);
        async move { Ok::<_, Infallible>(passage.handle(request).await) }
    });
    connection::serve(stream, &flow, service).await;
}

/// One connection of the workload, and ours to the host behind it.
struct Passage {
    serving: Arc<Serving>,
    flow: Arc<Flow>,
    host: HostName,
    injections: Arc<[Injection]>,
    link: Mutex<Option<SendRequest<Incoming>>>,
}

impl Passage {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let event = Event::deny(Kind::Http, self.flow.phase(), "")
            .host(&self.host)
            .request(&parts.method, parts.uri.path());
        match self.forward(parts, body, &event).await {
            Ok((answer, reason)) => {
                let status = answer.status();
                self.serving.audit.write(event.allowed(reason).status(status));
                answer
            }
            Err(refusal) => {
                let event = event.reason(refusal.code).status(refusal.status);
                self.serving.audit.write(event);
                refusal.answer()
            }
        }
    }

    async fn forward(
        &self,
        mut parts: Parts,
        body: Incoming,
        event: &Event,
    ) -> Result<(Answer, &'static str), Refusal> {
        request::check(&parts, &self.host)?;
        let is_injected = request::rewrite(&mut parts, &self.host, &self.injections)?;
        if self.serving.audit.begin(event).is_err() {
            return Err(Refusal::unwritable());
        }
        let response = self.send(Request::from_parts(parts, body)).await?;
        let secrets = self.serving.guarded.0.get(&self.host);
        let secrets = secrets.map(|host| Arc::clone(&host.secrets)).unwrap_or_default();
        let answer = answer::scrubbed(response, secrets)?;
        Ok((answer, if is_injected { "injected" } else { "forwarded" }))
    }

    /// Over the connection that is there, or a new one.
    async fn send(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Refusal> {
        let mut link = self.link.lock().await;
        if let Some(mut sender) = link.take()
            && matches!(timeout(SETTLING, sender.ready()).await, Ok(Ok(())))
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *link = Some(sender);
                    return Ok(response);
                }
                // It had ended: the host has seen nothing of the request.
                Err(mut error) => request = error.take_message().ok_or_else(broken)?,
            }
        }
        let mut sender = self.connect().await.map_err(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "a host cannot be reached");
            Refusal::provider("upstream_unreachable", "The host cannot be reached.")
        })?;
        let response = sender.send_request(request).await.map_err(|_| broken())?;
        *link = Some(sender);
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, upstream::Error> {
        let unknown = dial::Error::Resolve(crate::resolve::Error::NoAddress);
        let host = self.serving.guarded.0.get(&self.host).ok_or(unknown)?;
        let stream = dial::host(&self.serving.resolver, &self.host, HTTPS).await?;
        let tls = upstream::secure(&host.tls, &self.host, stream).await?;
        let (sender, connection) = client::handshake(TokioIo::new(tls))
            .await
            .map_err(upstream::Error::Http)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a host ended");
            }
        });
        Ok(sender)
    }
}

fn broken() -> Refusal {
    Refusal::provider("upstream_broken", "The host broke the connection.")
}

const HTTPS: u16 = 443;
/// The end of the last answer may not have come through yet.
const SETTLING: Duration = Duration::from_millis(20);

#[cfg(test)]
/// A secret value for a host.
pub(crate) fn example(host: &str) -> Injection {
    Injection {
        placeholder: "assay-placeholder-0123".to_owned(),
        value: assay_core::upstream::Secret::new("the-real-value"),
        host: host.parse().unwrap(),
        header: "authorization".to_owned(),
    }
}
