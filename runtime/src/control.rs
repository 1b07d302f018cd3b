//! How the control plane speaks to a sandbox: signed calls to its runner and its proxy.
//!
//! Nothing that a sandbox answers is trusted further than its type says, but for the proxy's answers, whose MAC only
//! the proxy can make.

mod proxy;
mod runner;

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use assay_core::{
    control::signature::{AUTH_HEADER, Claim, MAX_LIFE_MS, Signer},
    digest::{Digest, hex},
    id::{Fence, SandboxId},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

pub use proxy::ProxyClient;
pub use runner::{Collection, Events, RunnerClient};

use crate::client::{self, Body, Client};

/// Why a call of a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, no answer in time, or a refusal.
    #[error(transparent)]
    Call(#[from] client::Error),
    /// The answer's MAC is missing or wrong: somebody else answered.
    #[error("the answer does not come from the proxy")]
    Forged,
    /// The answer is not what was expected.
    #[error("cannot read the answer: {0}")]
    Answer(String),
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
    /// A local file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
}

impl Error {
    /// May the same call succeed later?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Forged | Self::Answer(_) => true,
            Self::Random | Self::File { .. } => false,
        }
    }

    /// The status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        if let Self::Call(client::Error::Problem { status, .. }) = self {
            Some(*status)
        } else {
            None
        }
    }
}

/// One control interface of one sandbox.
#[derive(Debug)]
struct Caller {
    client: Client,
    address: SocketAddr,
    sandbox: SandboxId,
    fence: Fence,
    signer: Signer,
    /// The receiver's boot, and what its clock said when.
    boot: Mutex<Option<Boot>>,
}

#[derive(Debug, Clone)]
struct Boot {
    id: String,
    monotonic_ms: u64,
    at: Instant,
}

/// What both `/healthz` have.
#[derive(Deserialize)]
struct Alive {
    boot: String,
    monotonic_ms: u64,
}

impl Caller {
    fn new(address: SocketAddr, sandbox: SandboxId, fence: Fence, seed: &[u8; 32]) -> Self {
        Self {
            client: Client::new(CALL_TIMEOUT),
            address,
            sandbox,
            fence,
            signer: Signer::new(seed),
            boot: Mutex::new(None),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The unsigned health, which also tells boot and clock.
    async fn health(&self) -> Result<Bytes, Error> {
        let request = build(
            Request::builder().method(Method::GET).uri(self.url("/healthz")),
            client::full(""),
        )?;
        let response = self.client.send(request).await?;
        let bytes = self.read(response).await?;
        let alive: Alive =
            serde_json::from_slice(&bytes).map_err(|error| Error::Answer(error.to_string()))?;
        *self.boot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Boot {
            id: alive.boot,
            monotonic_ms: alive.monotonic_ms,
            at: now(),
        });
        Ok(bytes)
    }

    async fn boot(&self) -> Result<Boot, Error> {
        let known = self.boot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(boot) = known {
            return Ok(boot);
        }
        self.health().await?;
        let known = self.boot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.ok_or_else(|| Error::Answer("no boot id".to_owned()))
    }

    /// The signature of a request, and its nonce. `content` is `None` for a stream.
    async fn sign(
        &self,
        method: &Method,
        path: &str,
        content: Option<Digest>,
    ) -> Result<(String, String), Error> {
        let boot = self.boot().await?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| Error::Random)?;
        let nonce = hex(&random);
        let passed = u64::try_from(boot.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let claim = Claim {
            sandbox: self.sandbox,
            fence: self.fence,
            nonce: nonce.clone(),
            // Half of the longest life: the other half is for clocks that drift.
            deadline_ms: boot
                .monotonic_ms
                .saturating_add(passed)
                .saturating_add(MAX_LIFE_MS / 2),
            boot: boot.id,
            content,
        };
        Ok((self.signer.authorize(&claim, method.as_str(), path), nonce))
    }

    /// A signed call whose body is there already. Answers with the head and the nonce, whatever the status.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, String), Error> {
        for attempt in 0..2 {
            let (auth, nonce) = self.sign(&method, path, Some(Digest::of(&body))).await?;
            let request = Request::builder()
                .method(method.clone())
                .uri(self.url(path))
                .header(AUTH_HEADER, auth);
            let response = self
                .client
                .send(build(request, client::full(body.clone()))?)
                .await?;
            // Another boot, or a clock that was measured too long ago: measure again, once.
            if response.status() != StatusCode::UNAUTHORIZED || attempt > 0 {
                return Ok((response, nonce));
            }
            self.boot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Err(Error::Answer("unreachable".to_owned()))
    }

    /// The body of a good answer, or the problem.
    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        let status = response.status();
        let bytes = self.client.read(response, &self.url("")).await?;
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(client::problem(status, &bytes).into())
        }
    }
}

fn build(request: http::request::Builder, body: Body) -> Result<Request<Body>, Error> {
    request
        .body(body)
        .map_err(|error| Error::Call(client::Error::Invalid(error.to_string())))
}

fn now() -> Instant {
    Instant::now()
}

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
