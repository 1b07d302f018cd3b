//! What stands before a cluster's API server and does to its clients what busy and dying API servers do: 429, 500, silence,
//! watches that break. `kubectl proxy` carries the rest on with the rights of its kubeconfig.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

use crate::kubectl::Kubectl;

/// What it does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An answer of this status; 429 asks to come again after a second. It passes: who asks the same again is answered at the
    /// third time at the latest, however the questions of others fall in between.
    Status(u16),
    /// No answer, ever.
    Silence,
    /// A watch is carried on for so long, then it breaks off. Others are let be.
    CutWatch(Duration),
}

/// The server. It ends with it.
#[derive(Debug)]
pub struct Faulty {
    url: String,
    kubeconfig: PathBuf,
    state: Arc<Mutex<State>>,
    _folder: tempfile::TempDir,
    _proxy: Child,
    _served: tokio_util::task::AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Every so many requests meet it.
    fault: Option<(Fault, u32)>,
    requests: u32,
    met: u32,
    /// How often in a row each question was refused.
    refused: HashMap<String, u32>,
}

type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

impl Faulty {
    /// Before the API server of this kubeconfig, faultless so far.
    pub async fn before(program: &Kubectl) -> anyhow::Result<Self> {
        let mut proxy = Command::new(program.program())
            .args(["--kubeconfig", program.kubeconfig(), "proxy", "--port=0"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = proxy.stdout.take().context("its output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said).await?;
        let target = said
            .split_whitespace()
            .next_back()
            .context("an address")?
            .to_owned();
        ensure!(target.starts_with("127.0.0.1:"), "kubectl proxy: {said}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config(&url))?;
        let state = Arc::<Mutex<State>>::default();
        let served = tokio::spawn(serve(listener, target, Arc::clone(&state)));
        Ok(Self {
            url,
            kubeconfig,
            state,
            _folder: folder,
            _proxy: proxy,
            _served: tokio_util::task::AbortOnDropHandle::new(served),
        })
    }

    /// The kubeconfig of its clients.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on every so many requests meet this; `None` ends it. Says how many have met what was before.
    pub fn set(&self, fault: Option<(Fault, u32)>) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fault = fault;
        state.refused.clear();
        std::mem::take(&mut state.met)
    }
}

async fn serve(listener: TcpListener, target: String, state: Arc<Mutex<State>>) {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    while let Ok((stream, _)) = listener.accept().await {
        let (client, target, state) = (client.clone(), target.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (client, target, state) = (client.clone(), target.clone(), Arc::clone(&state));
                async move { Ok::<_, Infallible>(answer(&client, &target, &state, request).await) }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // However a connection ends is no news here: clients go away, watches are cut.
            drop(served.await);
        });
    }
}

async fn answer(
    client: &Client<HttpConnector, Full<Bytes>>,
    target: &str,
    state: &Mutex<State>,
    request: Request<Incoming>,
) -> Response<Body> {
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let question = format!("{} {}", request.method(), request.uri());
    match meets(state, &question, is_watch) {
        Some(Fault::Status(code)) => status(code),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::CutWatch(after)) => match forward(client, target, request).await {
            Ok(response) => response.map(|body| cut(body, after)),
            Err(error) => gateway(&error),
        },
        None => match forward(client, target, request).await {
            Ok(response) => response.map(|body| body.map_err(anyhow::Error::from).boxed_unsync()),
            Err(error) => gateway(&error),
        },
    }
}

fn meets(state: &Mutex<State>, question: &str, is_watch: bool) -> Option<Fault> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (fault, every) = state.fault?;
    if matches!(fault, Fault::CutWatch(_)) && !is_watch {
        return None;
    }
    state.requests += 1;
    let is_turn = state.requests.is_multiple_of(every);
    let meets = if matches!(fault, Fault::Status(_)) {
        let before = state.refused.remove(question).unwrap_or(0);
        let meets = is_turn && before < MOST_IN_A_ROW;
        if meets {
            state.refused.insert(question.to_owned(), before + 1);
        }
        meets
    } else {
        is_turn
    };
    state.met += u32::from(meets);
    meets.then_some(fault)
}

async fn forward(
    client: &Client<HttpConnector, Full<Bytes>>,
    target: &str,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("http://{target}{path}").parse()?;
    head.headers.remove(header::HOST);
    let body = body.collect().await?.to_bytes();
    Ok(client.request(Request::from_parts(head, Full::new(body))).await?)
}

/// The body's pieces until then, and the end of the connection in the middle.
fn cut(body: Incoming, after: Duration) -> Body {
    let end = tokio::time::Instant::now() + after;
    let pieces = futures_util::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout_at(end, body.frame()).await {
            Ok(Some(frame)) => Some((frame.map_err(anyhow::Error::from), Some(body))),
            Ok(None) => None,
            Err(_) => Some((Err(anyhow::anyhow!("the watch is cut")), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn status(code: u16) -> Response<Body> {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": format!("a fault of the suite: {code}"), "reason": if code == 429 { "TooManyRequests" } else { "InternalError" },
    });
    let mut response = Response::new(whole(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if code == 429 {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn gateway(error: &anyhow::Error) -> Response<Body> {
    let mut response = Response::new(whole(error.to_string()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn config(url: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "faulty",
        "clusters": [{"name": "faulty", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "nobody"}}],
    })
    .to_string()
}

/// Fewer than anybody asks.
const MOST_IN_A_ROW: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_refused_in_its_turn_and_never_for_the_third_time_in_a_row() {
        let state = Mutex::new(State {
            fault: Some((Fault::Status(500), 3)),
            ..State::default()
        });
        let meets = |question| meets(&state, question, false).is_some();
        // Others come twice in between, so that every turn is the same one's.
        let mut refused = Vec::new();
        for _ in 0..7 {
            assert!(!meets("GET /other") && !meets("GET /another"));
            refused.push(meets("POST /pods"));
        }
        assert_eq!(refused, [true, true, false, true, true, false, true]);
        assert_eq!(state.into_inner().unwrap().met, 5);
    }

    #[test]
    fn silence_and_broken_watches_come_as_often_as_was_said() {
        for (fault, is_watch) in [(Fault::Silence, false), (Fault::CutWatch(Duration::ZERO), true)] {
            let state = Mutex::new(State {
                fault: Some((fault, 1)),
                ..State::default()
            });
            let all = (0..5).all(|_| meets(&state, "GET /pods", is_watch) == Some(fault));
            assert!(all, "{fault:?}");
        }
        let state = Mutex::new(State {
            fault: Some((Fault::CutWatch(Duration::ZERO), 1)),
            ..State::default()
        });
        assert_eq!(meets(&state, "GET /pods", false), None, "no watch");
    }
}
