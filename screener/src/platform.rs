//! The worker's calls of the API, with retries for what may succeed later.

mod credential;
pub mod transfer;

use std::{future::Future, time::Duration};

pub use self::credential::Credential;

use assay_core::{
    id::{AttemptId, Fence, WorkerId},
    wire::channel::Channel,
    wire::worker::{
        Accounts, ArtifactUpload, Beat, Beaten, Claim, Claimed, Handoff, OrphanVerdicts, Orphans, PostEvents,
        PutArtifact, Register, Registered, Report, TaskUrl,
    },
};
use assay_runtime::client::{self, Client};
use bytes::Bytes;
use http::{Method, Request, header};
use serde::{Serialize, de::DeserializeOwned};

/// Why a call failed for good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is lost: somebody else holds the attempt, or it is closed.
    #[error("the lease is lost")]
    Lost,
    /// The API or the object store refused, or could not be reached for as long as was tried.
    #[error(transparent)]
    Call(#[from] client::Error),
    /// A local file could not be read or written.
    #[error("{path}: {message}")]
    File {
        /// Which one.
        path: String,
        /// What happened.
        message: String,
    },
    /// More bytes came than were announced.
    #[error("longer than the {announced} bytes announced")]
    TooLong {
        /// What was announced.
        announced: u64,
    },
}

impl Error {
    /// May the same call succeed later?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Lost | Self::File { .. } | Self::TooLong { .. } => false,
        }
    }
}

/// A client of the worker API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Platform {
    client: Client,
    base: String,
    credential: Credential,
}

impl Platform {
    /// A client for the API at `base`, e.g. `http://127.0.0.1:8000`.
    pub fn new(base: &str, credential: impl Into<Credential>) -> Self {
        Self {
            client: Client::new(CALL_TIMEOUT),
            base: base.trim_end_matches('/').to_owned(),
            credential: credential.into(),
        }
    }

    /// Introduces the worker. Not retried: the caller decides how long to try.
    pub async fn register(&self, body: &Register) -> Result<Registered, Error> {
        self.once("/v1/workers", body).await
    }

    /// Asks for work. Not retried: a claim whose answer was lost is adopted after its lease.
    pub async fn claim(&self, worker: WorkerId, body: &Claim) -> Result<Claimed, Error> {
        self.once(&format!("/v1/workers/{worker}/claim"), body).await
    }

    /// Extends all leases. Not retried: the next beat comes soon.
    pub async fn beat(&self, worker: WorkerId, body: &Beat) -> Result<Beaten, Error> {
        self.once(&format!("/v1/workers/{worker}/beat"), body).await
    }

    /// Gives leases back.
    pub async fn handoff(&self, worker: WorkerId, body: &Handoff) -> Result<(), Error> {
        self.retried(&format!("/v1/workers/{worker}/handoff"), body, SHORT)
            .await
    }

    /// Asks which sandboxes may be removed.
    pub async fn orphans(&self, worker: WorkerId, body: &Orphans) -> Result<OrphanVerdicts, Error> {
        self.once(&format!("/v1/workers/{worker}/orphans"), body).await
    }

    /// Appends events and moves the attempt's row.
    pub async fn events(&self, attempt: AttemptId, body: &PostEvents) -> Result<(), Error> {
        self.retried(&format!("/v1/attempts/{attempt}/events"), body, LONG)
            .await
    }

    /// Asks where to put an artifact.
    pub async fn artifact(&self, attempt: AttemptId, body: &PutArtifact) -> Result<ArtifactUpload, Error> {
        self.retried(&format!("/v1/attempts/{attempt}/artifacts"), body, LONG)
            .await
    }

    /// Closes an attempt.
    pub async fn report(&self, attempt: AttemptId, body: &Report) -> Result<(), Error> {
        self.retried(&format!("/v1/attempts/{attempt}/report"), body, REPORT)
            .await
    }

    /// Asks what the streamed logs of the attempt's proxies say.
    pub async fn accounts(&self, attempt: AttemptId, fence: Fence) -> Result<Accounts, Error> {
        let path = format!("/v1/attempts/{attempt}/accounts?fence={fence}");
        retry(SHORT, || self.read(&path)).await
    }

    /// Asks where the task's archive is now.
    pub async fn task_url(&self, attempt: AttemptId, fence: Fence) -> Result<String, Error> {
        let path = format!("/v1/attempts/{attempt}/task?fence={fence}");
        let told: TaskUrl = retry(SHORT, || self.read(&path)).await?;
        Ok(told.url)
    }

    /// Stores a chunk of output.
    pub async fn output(&self, place: &OutputPlace, offset: u64, bytes: &Bytes) -> Result<(), Error> {
        let url = format!(
            "{}/v1/attempts/{}/output?fence={}&step={}&phase={}&stream={}&offset={offset}",
            self.base,
            place.attempt,
            place.fence,
            place.step,
            place.channel.phase(),
            place.channel.stream(),
        );
        let call = || async {
            let shown = self.credential.read().await?;
            let request = Request::builder()
                .method(Method::PUT)
                .uri(&url)
                .header(header::AUTHORIZATION, format!("Bearer {}", shown.expose()))
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(client::full(bytes.clone()))
                .map_err(|error| client::Error::Invalid(error.to_string()))?;
            let response = self.client.send(request).await?;
            let status = response.status();
            let answer = self.client.read(response, &self.base).await?;
            if status.is_success() {
                Ok(())
            } else {
                Err(lost_or(client::problem(status, &answer)))
            }
        };
        retry(LONG, call).await
    }

    async fn read<A: DeserializeOwned>(&self, path: &str) -> Result<A, Error> {
        let url = format!("{}{path}", self.base);
        let shown = self.credential.read().await?;
        self.client
            .json(Method::GET, &url, Some(shown.expose()), None::<&()>)
            .await
            .map_err(lost_or)
    }

    async fn once<B: Serialize + Sync, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, Error> {
        let url = format!("{}{path}", self.base);
        let shown = self.credential.read().await?;
        self.client
            .json(Method::POST, &url, Some(shown.expose()), Some(body))
            .await
            .map_err(lost_or)
    }

    async fn retried<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        budget: Duration,
    ) -> Result<A, Error> {
        retry(budget, || self.once(path, body)).await
    }
}

/// Where output belongs.
#[derive(Debug, Clone, Copy)]
pub struct OutputPlace {
    /// The attempt.
    pub attempt: AttemptId,
    /// The lease's fence.
    pub fence: Fence,
    /// The step.
    pub step: u32,
    /// The stream.
    pub channel: Channel,
}

/// Calls again while the error is transient, for at most `budget`, with growing pauses and jitter.
pub async fn retry<T, F, C>(budget: Duration, mut call: C) -> Result<T, Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Error>>,
{
    let start = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Err(error) if error.is_transient() && start.elapsed() + pause < budget => {
                tracing::debug!(%error, "will be tried again");
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

/// Between half and one and a half of `pause`.
pub fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the pause is merely not spread.
    if getrandom::fill(&mut random).is_err() {
        return pause;
    }
    pause / 2 + pause * u32::from(random[0]) / 255
}

fn lost_or(error: client::Error) -> Error {
    let lost = matches!(
        error.code(),
        Some("stale_fence" | "attempt_closed" | "lease_lost")
    );
    if lost { Error::Lost } else { Error::Call(error) }
}

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_secs(10);
/// The store may be away for a minute without anything being lost.
const LONG: Duration = Duration::from_mins(2);
/// A report is the one call that must arrive.
const REPORT: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn refused(status: u16) -> Error {
        Error::Call(client::problem(http::StatusCode::from_u16(status).unwrap(), b""))
    }

    #[tokio::test(start_paused = true)]
    async fn transient_failures_are_tried_again() {
        let calls = AtomicU32::new(0);
        let result = retry(LONG, || async {
            if calls.fetch_add(1, Ordering::Relaxed) < 3 {
                Err(refused(503))
            } else {
                Ok(7)
            }
        })
        .await;
        assert_eq!(result.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_final_and_patience_ends() {
        let calls = AtomicU32::new(0);
        let count = |status| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { Err::<(), _>(refused(status)) }
        };
        assert!(retry(LONG, || count(422)).await.is_err());
        assert_eq!(calls.swap(0, Ordering::Relaxed), 1);
        assert!(retry(LONG, || count(503)).await.is_err());
        assert!(calls.load(Ordering::Relaxed) > 5);
    }
}
