//! What stands before the replicas of the API: it spreads calls, and can hold those that a suite wants to hold.
//!
//! The answer of the first report of each attempt is lost on its way, so that every report is sent twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use assay_core::{
    id::{AttemptId, RunId},
    phase::Phase,
    wire::worker::{Claimed, PostEvents},
};
use assay_runtime::{
    client::{self, Client},
    serve::{Options, serve},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A call of a run's first attempt that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The one that says that this phase begins: the phase before it has done its work and is not over.
    Begin(Phase),
    /// The one that closes the attempt.
    Report,
}

/// The load balancer. Dropping it ends it.
#[derive(Debug)]
pub struct Front {
    url: String,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    replicas: Vec<String>,
    next: AtomicUsize,
    client: Client,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    claims_wait: bool,
    holds: BTreeMap<RunId, Hold>,
    /// Runs by their first attempts, as the claims told them.
    first: BTreeMap<AttemptId, RunId>,
    held: BTreeSet<RunId>,
    reported: BTreeSet<AttemptId>,
}

impl Front {
    /// Stands before these base URLs.
    pub async fn start(replicas: Vec<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            replicas,
            next: AtomicUsize::new(0),
            client: Client::new(PATIENCE),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let stop = CancellationToken::new();
        let serving = Arc::clone(&shared);
        let answer = move |request: Request<Incoming>| {
            let shared = Arc::clone(&serving);
            async move { shared.answer(request).await }
        };
        tokio::spawn(serve(listener, Options::default(), stop.clone(), answer));
        Ok(Self {
            url,
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets no worker claim until [`Self::let_claim`].
    pub fn stop_claims(&self) {
        self.shared.with(|state| state.claims_wait = true);
    }

    /// Lets workers claim.
    pub fn let_claim(&self) {
        self.shared.with(|state| state.claims_wait = false);
    }

    /// Will hold a call of the run's first attempt.
    pub fn hold(&self, run: RunId, hold: Hold) {
        self.shared.with(|state| state.holds.insert(run, hold));
    }

    /// Is a call of the run held now?
    pub fn holds(&self, run: RunId) -> bool {
        self.shared.with(|state| state.held.contains(&run))
    }

    /// Lets everything go on and holds nothing any more.
    pub fn let_go(&self) {
        self.shared.with(|state| {
            state.holds.clear();
            state.held.clear();
        });
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let answer = act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        answer
    }

    /// Waits until the state says so.
    async fn until(&self, ready: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if ready(&self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
                return;
            }
            changed.await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return status(StatusCode::BAD_REQUEST);
        };
        let body = body.to_bytes();
        let path = parts.uri.path().to_owned();
        if path.ends_with("/claim") {
            self.until(|state| !state.claims_wait).await;
        }
        let attempt = attempt_of(&path);
        if let Some((run, hold)) = attempt.and_then(|attempt| self.wanted(attempt))
            && matches(hold, &path, &body)
        {
            self.with(|state| state.held.insert(run));
            self.until(|state| state.holds.get(&run) != Some(&hold)).await;
        }
        let answer = self.forward(&parts, body).await;
        if path.ends_with("/claim")
            && let Ok(claimed) = serde_json::from_slice::<Claimed>(answer.body())
        {
            self.learn(&claimed);
        }
        if let Some(attempt) = attempt
            && path.ends_with("/report")
            && answer.status().is_success()
            && self.with(|state| state.reported.insert(attempt))
        {
            return status(StatusCode::BAD_GATEWAY);
        }
        answer.map(Full::new)
    }

    fn wanted(&self, attempt: AttemptId) -> Option<(RunId, Hold)> {
        self.with(|state| {
            let run = *state.first.get(&attempt)?;
            state.holds.get(&run).map(|hold| (run, *hold))
        })
    }

    fn learn(&self, claimed: &Claimed) {
        let first = claimed
            .assignments
            .iter()
            .filter(|assignment| assignment.number == 1);
        self.with(|state| {
            state
                .first
                .extend(first.map(|assignment| (assignment.attempt, assignment.run)));
        });
    }

    /// To the replicas in turn. Only what changes nothing is sent to the next one where the first does not answer.
    async fn forward(&self, parts: &Parts, body: Bytes) -> Response<Bytes> {
        let tries = if parts.method == Method::GET {
            self.replicas.len()
        } else {
            1
        };
        // Taken once: others who take theirs meanwhile must not lead to the same replica twice.
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..tries {
            let replica = &self.replicas[(turn + step) % self.replicas.len()];
            if let Ok(answer) = self.send(replica, parts, body.clone()).await {
                return answer;
            }
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }

    async fn send(&self, replica: &str, parts: &Parts, body: Bytes) -> anyhow::Result<Response<Bytes>> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder()
            .method(&parts.method)
            .uri(format!("{replica}{target}"));
        if let Some(headers) = request.headers_mut() {
            copy(&parts.headers, headers);
        }
        let response = self.client.send(request.body(client::full(body))?).await?;
        let (head, body) = response.into_parts();
        let mut answer = Response::builder().status(head.status);
        if let Some(headers) = answer.headers_mut() {
            copy(&head.headers, headers);
        }
        Ok(answer.body(body.collect().await?.to_bytes())?)
    }
}

/// What belongs to one connection stays there.
fn copy(from: &HeaderMap, into: &mut HeaderMap) {
    let own = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
    ];
    for (name, value) in from {
        if !own.contains(name) {
            into.append(name, value.clone());
        }
    }
}

fn matches(hold: Hold, path: &str, body: &Bytes) -> bool {
    match hold {
        Hold::Report => path.ends_with("/report"),
        Hold::Begin(phase) => {
            path.ends_with("/events")
                && serde_json::from_slice::<PostEvents>(body)
                    .is_ok_and(|post| post.progress.phase == Some(phase))
        }
    }
}

fn attempt_of(path: &str) -> Option<AttemptId> {
    let rest = path.strip_prefix("/v1/attempts/")?;
    rest.split('/').next()?.parse().ok()
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

const PATIENCE: Duration = Duration::from_secs(60);
