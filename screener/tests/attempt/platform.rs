//! The worker API and the object store, as far as a screener can tell, in memory.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use assay_core::{
    digest::Digest,
    id::{AttemptId, Fence, WorkerId},
    limits::LimitSettings,
    problem::Problem,
    wire::worker::{
        Accounts, Archive, ArtifactUpload, Assignment, Beaten, Claimed, Handoff, OrphanVerdicts, Orphans,
        PostEvents, Progress, PutArtifact, Registered, Report,
    },
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::world::Files;

/// The platform. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Platform(Arc<Inner>);

struct Inner {
    pub(crate) address: SocketAddr,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queue: Vec<Assignment>,
    fence: u64,
    cancelled: Vec<AttemptId>,
    handed_back: Vec<AttemptId>,
    objects: BTreeMap<String, Bytes>,
    output: BTreeMap<String, Vec<u8>>,
    events: Vec<String>,
    progress: Progress,
    reports: Vec<Report>,
    closed: Vec<AttemptId>,
}

impl Platform {
    pub(crate) async fn start(stop: CancellationToken) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let platform = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            state: Mutex::default(),
            changed: Notify::new(),
        }));
        let serving = platform.clone();
        let answer = move |request: Request<Incoming>| {
            let platform = serving.clone();
            async move { platform.answer(request).await }
        };
        tokio::spawn(assay_runtime::serve::serve(
            listener,
            assay_runtime::serve::Options::default(),
            stop,
            answer,
        ));
        platform
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let answer = act(&mut self.0.state.lock().unwrap());
        self.0.changed.notify_waiters();
        answer
    }

    /// Puts an archive into the store.
    pub(crate) fn archive(&self, name: &str, files: &Files) -> Archive {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
            Vec::new(),
            flate2::Compression::fast(),
        ));
        for (path, content) in files.iter() {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let mut gzip = tar.into_inner().unwrap();
        gzip.flush().unwrap();
        let bytes = Bytes::from(gzip.finish().unwrap());
        let digest = Digest::of(&bytes);
        let key = format!("/objects/{}", digest.hex());
        let archive = Archive {
            digest,
            name: name.to_owned(),
            url: format!("{}{key}", self.url()),
            size_bytes: bytes.len() as u64,
        };
        self.with(|state| state.objects.insert(key, bytes));
        archive
    }

    pub(crate) fn give(&self, assignment: Assignment) {
        self.with(|state| {
            state.fence = assignment.fence.0;
            state.queue.push(assignment);
        });
    }

    pub(crate) fn cancel(&self, attempt: AttemptId) {
        self.with(|state| state.cancelled.push(attempt));
    }

    pub(crate) fn handed_back(&self) -> Vec<AttemptId> {
        self.with(|state| state.handed_back.clone())
    }

    /// What a claim would hand to the next worker.
    pub(crate) fn progress(&self) -> Progress {
        self.with(|state| {
            let mut progress = state.progress.clone();
            progress.seq = state.events.len() as u64;
            progress.output = state
                .output
                .iter()
                .map(|(key, bytes)| (key.clone(), bytes.len() as u64))
                .collect();
            progress
        })
    }

    /// The output whose key ends with this, e.g. `agent/stdout`.
    pub(crate) fn output(&self, end: &str) -> String {
        self.with(|state| {
            let found = state.output.iter().find(|(key, _)| key.ends_with(end));
            found
                .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
                .unwrap_or_default()
        })
    }

    /// The text of an artifact that was put.
    pub(crate) fn artifact(&self, name: &str) -> String {
        let object = self.with(|state| state.objects.get(&format!("/objects/{name}")).cloned());
        String::from_utf8(object.unwrap_or_default().to_vec()).unwrap()
    }

    /// The regular files in a tar that was put.
    pub(crate) fn files_of(&self, name: &str) -> Vec<String> {
        let object = self.with(|state| state.objects.get(&format!("/objects/{name}")).cloned());
        let object = object.unwrap_or_default();
        let mut archive = tar::Archive::new(&object[..]);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.header().entry_type().is_file());
        files
            .map(|entry| entry.path().unwrap().display().to_string())
            .collect()
    }

    pub(crate) async fn report(&self) -> Report {
        self.wait(|state| (!state.reports.is_empty()).then(|| state.reports.remove(0)))
            .await
    }

    pub(crate) async fn wait_for_output(&self, end: &str, text: &str) {
        self.wait(|state| {
            let found = state.output.iter().find(|(key, _)| key.ends_with(end));
            found
                .is_some_and(|(_, bytes)| String::from_utf8_lossy(bytes).contains(text))
                .then_some(())
        })
        .await;
    }

    /// How often a worker went on with a phase that another had begun.
    pub(crate) fn adoptions(&self) -> usize {
        self.with(|state| adoptions(state))
    }

    pub(crate) async fn wait_for_adoption(&self, number: usize) {
        self.wait(|state| (adoptions(state) >= number).then_some(()))
            .await;
    }

    /// The newest lease's.
    pub(crate) fn fence(&self) -> Fence {
        Fence(self.with(|state| state.fence))
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.0.changed.notified();
                if let Some(found) = ready(&mut self.0.state.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| {
            panic!(
                "nothing within {PATIENCE:?}; events: {:?}",
                self.with(|state| state.events.clone())
            )
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path();
        if path.starts_with("/objects/") {
            return self.object(&parts.method, path, body);
        }
        let segments: Vec<&str> = path.split('/').skip(2).collect();
        match &segments[..] {
            ["workers"] => json(&Registered {
                worker: WorkerId(Uuid::from_u128(1)),
                installation: "screener-test".to_owned(),
                lease_ms: 60_000,
                beat_ms: 200,
                limits: LimitSettings::default(),
            }),
            ["workers", _, "claim"] => json(&Claimed {
                assignments: self.with(|state| state.queue.pop()).into_iter().collect(),
            }),
            ["workers", _, "beat"] => json(&Beaten {
                lost: Vec::new(),
                cancel: self.with(|state| state.cancelled.clone()),
            }),
            ["workers", _, "handoff"] => {
                let handoff: Handoff = read(&body);
                self.with(|state| {
                    state
                        .handed_back
                        .extend(handoff.leases.iter().map(|lease| lease.attempt));
                });
                empty()
            }
            // What a worker could not remove at once it finds again.
            ["workers", _, "orphans"] => {
                let found: Orphans = read(&body);
                let closed = self.with(|state| state.closed.clone());
                let delete = found.attempts.into_iter().filter(|one| closed.contains(one));
                json(&OrphanVerdicts {
                    delete: delete.collect(),
                })
            }
            ["attempts", _, "events"] => self.events(read(&body)),
            ["attempts", _, "output"] => self.chunk(parts.uri.query().unwrap_or_default(), &body),
            ["attempts", _, "accounts"] => json(&Accounts::default()),
            ["attempts", _, "artifacts"] => {
                let artifact: PutArtifact = read(&body);
                json(&ArtifactUpload {
                    url: format!("{}/objects/{}", self.url(), artifact.name),
                })
            }
            ["attempts", attempt, "report"] => {
                self.with(|state| {
                    state.closed.push(attempt.parse().unwrap());
                    state.reports.push(read(&body));
                });
                empty()
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn object(&self, method: &Method, path: &str, body: Bytes) -> Response<Full<Bytes>> {
        if *method == Method::PUT {
            self.with(|state| state.objects.insert(path.to_owned(), body));
            return empty();
        }
        match self.with(|state| state.objects.get(path).cloned()) {
            Some(bytes) => Response::new(Full::from(bytes)),
            None => status(StatusCode::NOT_FOUND),
        }
    }

    fn events(&self, posted: PostEvents) -> Response<Full<Bytes>> {
        self.with(|state| {
            if posted.fence.0 < state.fence {
                let problem = Problem::new(409, "stale_fence", "older");
                let mut response = json(&problem);
                *response.status_mut() = StatusCode::CONFLICT;
                return response;
            }
            for event in posted.events {
                let expected = state.events.len() as u64 + 1;
                assert!(
                    event.seq <= expected,
                    "event {} after {}",
                    event.seq,
                    expected - 1
                );
                if event.seq == expected {
                    state.events.push(event.kind);
                }
            }
            state.progress = posted.progress;
            empty()
        })
    }

    fn chunk(&self, query: &str, body: &Bytes) -> Response<Full<Bytes>> {
        let of: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let key = format!("{}/{}/{}", of["step"], of["phase"], of["stream"]);
        let offset: usize = of["offset"].parse().unwrap();
        self.with(|state| {
            let stream = state.output.entry(key).or_default();
            if offset >= stream.len() {
                stream.resize(offset, b'?');
                stream.extend_from_slice(body);
            }
        });
        empty()
    }
}

fn adoptions(state: &State) -> usize {
    let adopted = |event: &&String| *event == "phase_adopted";
    state.events.iter().filter(adopted).count()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}

fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    Response::new(Full::from(serde_json::to_vec(value).unwrap()))
}

fn empty() -> Response<Full<Bytes>> {
    status(StatusCode::NO_CONTENT)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

const PATIENCE: Duration = Duration::from_mins(5);
