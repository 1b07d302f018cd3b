//! The control interface on port 15090: what the control plane may ask and order, signed.
//!
//! The workload can connect to this port too. It cannot sign, and it cannot take all the connections: those that come
//! from this machine itself have a cap of their own. A connection is never closed for being idle: the runner holds one
//! open, and takes its end for the proxy's death.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use assay_core::{
    control::{
        proxy::{Health, Ledger, MOST_PROBES, Metrics, Probe, Probed, Switch},
        signature::{AUTH_HEADER, Gate, MAC_HEADER, Refusal, response_mac},
    },
    digest::{Digest, unhex},
    phase::EgressPhase,
    wire::WIRE,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept,
    serving::Serving,
    state::{self, Identity, StateDir},
};

/// Answers the control plane.
pub struct Control {
    gate: Mutex<Gate>,
    mac_key: [u8; 32],
    boot: String,
    started: Instant,
    commit: &'static str,
    state: StateDir,
    role: Role,
    collected: CancellationToken,
}

/// What kind of life this is.
pub enum Role {
    /// The first: it serves.
    Serving(Arc<Serving>),
    /// A later one: this is all that it knows.
    Reporting {
        /// The account as the log tells it, with open requests unresolved.
        ledger: Box<Ledger>,
        /// The last phase known.
        phase: EgressPhase,
    },
}

/// The identity that came with the assignment cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The public key is none.
    #[error("the control plane's public key is malformed")]
    PublicKey,
    /// The key of the MAC is none.
    #[error("the key of the MAC is malformed")]
    MacKey,
}

impl Control {
    /// For a sandbox, by its boot id. `collected` is set when the control plane has fetched everything.
    pub fn new(
        identity: &Identity,
        state: StateDir,
        role: Role,
        commit: &'static str,
        (boot, collected): (String, CancellationToken),
    ) -> Result<Self, Error> {
        let gate = Gate::new(
            &identity.public_key,
            identity.sandbox,
            boot.clone(),
            identity.fence,
        )
        .ok_or(Error::PublicKey)?;
        let mac_key = unhex(identity.mac_key.expose())
            .and_then(|key| key.try_into().ok())
            .ok_or(Error::MacKey)?;
        Ok(Self {
            gate: Mutex::new(gate),
            mac_key,
            boot,
            started: Instant::now(),
            commit,
            state,
            role,
            collected,
        })
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/healthz") => json(&self.health()),
            (&Method::GET, "/trust") => self.trust(),
            (_, path) if path.starts_with("/v1/") => self.signed(&parts, body).await,
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn health(&self) -> Health {
        let (serving, phase, generation, faults) = match &self.role {
            Role::Serving(serving) => {
                let current = serving.phases.current();
                (
                    !serving.phases.is_closed(),
                    current.stage.phase,
                    current.number,
                    serving.faults(),
                )
            }
            Role::Reporting { phase, .. } => (false, *phase, 0, Vec::new()),
        };
        Health {
            boot: self.boot.clone(),
            monotonic_ms: self.monotonic_ms(),
            wire: WIRE,
            commit: self.commit.to_owned(),
            serving,
            phase,
            generation,
            faults,
        }
    }

    fn trust(&self) -> Response<Full<Bytes>> {
        match &self.role {
            Role::Serving(serving) => {
                with_type(serving.authority.root_pem().to_owned(), "application/x-pem-file")
            }
            Role::Reporting { .. } => status(StatusCode::NOT_FOUND),
        }
    }

    /// Checks the signature over method, path with query, and content; the answer carries the MAC.
    async fn signed(&self, parts: &Parts, body: Incoming) -> Response<Full<Bytes>> {
        let collected = timeout(READ_BODY, Limited::new(body, MOST_BODY).collect()).await;
        let Ok(Ok(body)) = collected else {
            return status(StatusCode::BAD_REQUEST);
        };
        let body = body.to_bytes();
        let nonce = match self.admit(parts, &body) {
            Ok(nonce) => nonce,
            Err(refusal) => {
                let mut response = with_type(refusal.to_string(), "text/plain");
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                return response;
            }
        };
        let mut response = match (&parts.method, parts.uri.path()) {
            (&Method::POST, "/v1/probe") => probe(&body).await,
            (&Method::POST, "/v1/close") => self.close().await,
            _ => self.answer(parts, &body),
        };
        let answered = std::mem::take(response.body_mut()).collect().await;
        let Ok(content) = answered.map(http_body_util::Collected::to_bytes);
        let mac = response_mac(&self.mac_key, &nonce, response.status().as_u16(), &content);
        if let Ok(mac) = HeaderValue::try_from(mac) {
            response.headers_mut().insert(MAC_HEADER, mac);
        }
        *response.body_mut() = Full::new(content);
        response
    }

    fn admit(&self, parts: &Parts, body: &[u8]) -> Result<String, Refusal> {
        let mut values = parts.headers.get_all(AUTH_HEADER).iter();
        let auth = values.next().and_then(|value| value.to_str().ok());
        let auth = auth
            .filter(|_| values.next().is_none())
            .ok_or(Refusal::Malformed)?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let claim = {
            let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.admit(self.monotonic_ms(), auth, parts.method.as_str(), path)?
        };
        let as_signed = match claim.content {
            Some(content) => content == Digest::of(body),
            None => body.is_empty(),
        };
        if as_signed {
            // From here on everything is done for this holder of the lease.
            tracing::Span::current().record("fence", claim.fence.0);
            Ok(claim.nonce)
        } else {
            Err(Refusal::WrongContent)
        }
    }

    fn answer(&self, parts: &Parts, body: &[u8]) -> Response<Full<Bytes>> {
        match (&parts.method, parts.uri.path()) {
            (&Method::POST, "/v1/phase") => self.switch(body),
            (&Method::GET, "/v1/ledger") => json(&self.ledger()),
            (&Method::GET, "/v1/metrics") => json(&self.metrics()),
            (&Method::GET, "/v1/log") => read(parts, |from| {
                state::read_from(&self.state.log(), from, MOST_READ).map(Some)
            }),
            (&Method::GET, "/v1/recording") => read(parts, |from| self.recording(from)),
            (&Method::POST, "/v1/replay") => self.load(parts, body),
            (&Method::GET, "/v1/audit") => read(parts, |from| self.audit(from)),
            (&Method::POST, "/v1/collected") => {
                self.collected.cancel();
                status(StatusCode::ACCEPTED)
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn audit(&self, from: u64) -> io::Result<Option<Vec<u8>>> {
        match &self.role {
            Role::Serving(serving) => serving.audit.read(from, MOST_READ),
            Role::Reporting { .. } => self.state.audit()?.read(from, MOST_READ),
        }
    }

    /// Nothing where none is made.
    fn recording(&self, from: u64) -> io::Result<Option<Vec<u8>>> {
        match state::read_from(&self.state.recording(), from, MOST_READ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Vec::new())),
            read => read.map(Some),
        }
    }

    fn load(&self, parts: &Parts, piece: &[u8]) -> Response<Full<Bytes>> {
        let from = parts.uri.query().and_then(|query| query.strip_prefix("from="));
        let (Some(from), Role::Serving(serving)) = (from.and_then(|from| from.parse().ok()), &self.role)
        else {
            return status(StatusCode::BAD_REQUEST);
        };
        let Some(replay) = &serving.replay else {
            return conflict("this run is not answered from a recording".to_owned());
        };
        match replay.load(from, piece) {
            Ok(loaded) => json(&loaded),
            Err(error) => conflict(error.to_string()),
        }
    }

    /// A later life has nothing to close.
    async fn close(&self) -> Response<Full<Bytes>> {
        if let Role::Serving(serving) = &self.role {
            serving.close().await;
        }
        status(StatusCode::NO_CONTENT)
    }

    fn switch(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let Ok(switch) = serde_json::from_slice::<Switch>(body) else {
            return status(StatusCode::BAD_REQUEST);
        };
        match &self.role {
            Role::Serving(serving) => match serving.switch(switch) {
                Ok(switched) => json(&switched),
                Err(stale) => conflict(stale.to_string()),
            },
            Role::Reporting { .. } => {
                conflict("this proxy has been restarted and serves nothing any more".to_owned())
            }
        }
    }

    fn metrics(&self) -> Metrics {
        match &self.role {
            Role::Serving(serving) => serving.metrics(),
            Role::Reporting { ledger, .. } => Metrics {
                ledger: (**ledger).clone(),
                ..Metrics::default()
            },
        }
    }

    fn ledger(&self) -> Ledger {
        match &self.role {
            Role::Serving(serving) => serving.ledger(),
            Role::Reporting { ledger, .. } => (**ledger).clone(),
        }
    }
}

/// Connects to what the control plane names, to show what a network policy lets through. Nothing is sent.
async fn probe(body: &[u8]) -> Response<Full<Bytes>> {
    let Ok(probe) = serde_json::from_slice::<Probe>(body) else {
        return status(StatusCode::BAD_REQUEST);
    };
    if probe.addresses.len() > MOST_PROBES {
        return status(StatusCode::BAD_REQUEST);
    }
    let patience = Duration::from_millis(probe.patience_ms).min(MOST_PATIENCE);
    let mut dials = JoinSet::new();
    for (at, address) in probe.addresses.iter().copied().enumerate() {
        dials.spawn(async move {
            (
                at,
                matches!(timeout(patience, TcpStream::connect(address)).await, Ok(Ok(_))),
            )
        });
    }
    let mut connected = vec![false; probe.addresses.len()];
    while let Some(dialled) = dials.join_next().await {
        if let Ok((at, took)) = dialled
            && let Some(place) = connected.get_mut(at)
        {
            *place = took;
        }
    }
    json(&Probed { connected })
}

/// Takes connections until the process ends.
pub async fn serve(control: Arc<Control>, listener: TcpListener) {
    let (own, foreign) = (
        Arc::new(Semaphore::new(MOST_OWN)),
        Arc::new(Semaphore::new(MOST_FOREIGN)),
    );
    loop {
        let Some(stream) = accept::next(&listener).await else {
            continue;
        };
        let cap = if comes_from_here(&stream) { &own } else { &foreign };
        let Ok(permit) = Arc::clone(cap).try_acquire_owned() else {
            continue;
        };
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| {
                let control = Arc::clone(&control);
                async move { Ok::<_, Infallible>(control.handle(request).await) }
            });
            // No timer: an idle connection stays.
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(MOST_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a control connection ended");
            }
        });
    }
}

/// The workload and the runner share our addresses; the control plane does not.
fn comes_from_here(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return true;
    };
    peer.ip() == local.ip() || peer.ip().to_canonical().is_loopback()
}

/// A stretch of a stream, by the query's offset. `None` is what was forgotten.
fn read(parts: &Parts, stretch: impl Fn(u64) -> io::Result<Option<Vec<u8>>>) -> Response<Full<Bytes>> {
    let from = parts
        .uri
        .query()
        .map_or(Some("0"), |query| query.strip_prefix("from="));
    let Some(from) = from.and_then(|from| from.parse().ok()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    match stretch(from) {
        Ok(Some(bytes)) => with_type(bytes, "application/jsonl"),
        Ok(None) => status(StatusCode::GONE),
        Err(error) => {
            tracing::error!(%error, "a state file cannot be read");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn conflict(message: String) -> Response<Full<Bytes>> {
    let mut response = with_type(message, "text/plain");
    *response.status_mut() = StatusCode::CONFLICT;
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    with_type(serde_json::to_vec(value).unwrap_or_default(), "application/json")
}

fn with_type(body: impl Into<Bytes>, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

const MOST_OWN: usize = 16;
const MOST_FOREIGN: usize = 64;
const MOST_HEAD: usize = 16 * 1024;
const MOST_BODY: usize = 64 * 1024;
const MOST_READ: u64 = 1024 * 1024;
const MOST_PATIENCE: Duration = Duration::from_secs(5);
const READ_BODY: Duration = Duration::from_secs(10);
