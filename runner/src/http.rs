//! The routes of port 15020. The signature comes first; only then is a body read.

use std::{sync::Arc, time::Duration};

use assay_core::{
    control::{
        runner::{Collect, Execute, Outcome, Signal},
        signature::{AUTH_HEADER, Claim, Refusal},
    },
    digest::Digest,
    id::ExecId,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use nix::errno::Errno;
use serde::de::DeserializeOwned;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    answer::{Body, Failure, empty, json, problem, refusal, stream, whole},
    disk,
    exec::{
        Execution,
        stream::{Offsets, follow},
        supervise,
    },
    files::{collect, put},
    state::{Readiness, Runner},
};

/// Longest body that is held in memory.
const LONGEST_BODY: usize = 4 << 20;
const BODY: Duration = Duration::from_secs(30);
const STDIN: Duration = Duration::from_secs(30);

type Answer = Result<Response<Body>, Failure>;

/// Answers one request.
pub(crate) async fn answer(runner: Arc<Runner>, request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::GET && request.uri().path() == "/healthz" {
        return json(StatusCode::OK, &runner.health());
    }
    let answer = match admit(&runner, &request) {
        Ok(claim) => route(&runner, request, claim).await,
        Err(refused) => Err(refusal(refused)),
    };
    answer.unwrap_or_else(Response::from)
}

fn admit(runner: &Runner, request: &Request<Incoming>) -> Result<Claim, Refusal> {
    let header = request
        .headers()
        .get(AUTH_HEADER)
        .and_then(|value| value.to_str().ok())
        .ok_or(Refusal::Malformed)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    runner.admit(header, request.method().as_str(), path)
}

async fn route(runner: &Arc<Runner>, request: Request<Incoming>, claim: Claim) -> Answer {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if (&method, &segments[..]) == (&Method::PUT, &["v1", "files"]) {
        return put::receive(runner, request, &claim, &query).await;
    }
    let body = read(request, &claim).await?;
    match (method.as_str(), &segments[..]) {
        ("POST", ["v1", "collect"]) => collect::send(parse::<Collect>(&body)?).await,
        ("POST", ["v1", "execute"]) => execute(runner, parse(&body)?),
        ("GET", ["v1", "execute", id]) => {
            let offsets = Offsets {
                stdout: number(&query, "stdout")?,
                stderr: number(&query, "stderr")?,
            };
            Ok(events(&find(runner, id)?, offsets))
        }
        ("POST", ["v1", "execute", id, "signal"]) => signal(&*find(runner, id)?, parse(&body)?),
        ("POST", ["v1", "execute", id, "stdin"]) => stdin(&*find(runner, id)?, &body).await,
        ("GET", ["v1", "services", name, "output"]) => match runner.services.output(name) {
            Some(bytes) => Ok(whole(StatusCode::OK, "application/octet-stream", bytes)),
            None => Err(problem(
                StatusCode::NOT_FOUND,
                "no_such_service",
                "no such service",
            )),
        },
        ("GET", ["v1", "disk"]) => disk::answer(runner).await,
        ("POST", ["v1", "kill"]) => {
            if runner.kill_everything(Outcome::Killed, None).await {
                return Ok(empty(StatusCode::OK));
            }
            Err(problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "still_alive",
                "some processes could not be killed",
            ))
        }
        ("POST", ["v1", "shutdown"]) => {
            runner.shutdown.notify_one();
            Ok(empty(StatusCode::ACCEPTED))
        }
        _ => Err(problem(StatusCode::NOT_FOUND, "no_such_route", "no such route")),
    }
}

/// The whole body, when it is what was signed.
async fn read(request: Request<Incoming>, claim: &Claim) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), LONGEST_BODY);
    let body = timeout(BODY, body.collect())
        .await
        .map_err(|_| problem(StatusCode::REQUEST_TIMEOUT, "slow_body", "the body took too long"))?
        .map_err(|error| problem(StatusCode::BAD_REQUEST, "bad_body", &error.to_string()))?
        .to_bytes();
    if claim.content == Some(Digest::of(&body)) {
        Ok(body)
    } else {
        Err(refusal(Refusal::WrongContent))
    }
}

fn execute(runner: &Arc<Runner>, request: Execute) -> Answer {
    match runner.readiness() {
        Readiness::Ready => {}
        Readiness::Waiting(reason) => {
            return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "not_ready", &reason));
        }
        Readiness::ProxyLost(reason) => {
            let known = runner.executions.find(request.exec);
            let execution =
                known.unwrap_or_else(|| Execution::refused(request.exec, Outcome::ProxyLost, reason));
            return Ok(events(&execution, Offsets::default()));
        }
    }
    let (execution, new) = runner.executions.find_or_add(request.exec);
    if new {
        // In a task of its own: a caller who goes away must not leave an execution without an end.
        let (runner, started) = (Arc::clone(runner), Arc::clone(&execution));
        tokio::spawn(async move { supervise::start(&runner, &started, request).await });
    }
    Ok(events(&execution, Offsets::default()))
}

fn events(execution: &Arc<Execution>, offsets: Offsets) -> Response<Body> {
    stream("application/x-ndjson", follow(execution, offsets))
}

fn signal(execution: &Execution, signal: Signal) -> Answer {
    match execution.signal(signal.signal) {
        Ok(()) => Ok(empty(StatusCode::ACCEPTED)),
        Err(Errno::EINVAL) => Err(problem(
            StatusCode::BAD_REQUEST,
            "no_such_signal",
            "no such signal",
        )),
        Err(_) => Err(not_running()),
    }
}

async fn stdin(execution: &Execution, bytes: &[u8]) -> Answer {
    let mut stdin = execution.stdin.lock().await;
    if bytes.is_empty() {
        stdin.take();
        return Ok(empty(StatusCode::ACCEPTED));
    }
    let pipe = stdin.as_mut().ok_or_else(not_running)?;
    match timeout(STDIN, pipe.write_all(bytes)).await {
        Ok(Ok(())) => Ok(empty(StatusCode::ACCEPTED)),
        Ok(Err(_)) => {
            stdin.take();
            Err(not_running())
        }
        Err(_) => {
            // Part of it may be written, so nothing that comes later would make sense.
            stdin.take();
            Err(problem(
                StatusCode::REQUEST_TIMEOUT,
                "stdin_not_read",
                "the command does not read its input",
            ))
        }
    }
}

fn not_running() -> Failure {
    problem(
        StatusCode::CONFLICT,
        "not_running",
        "the execution does not run or takes no input",
    )
}

fn find(runner: &Runner, id: &str) -> Result<Arc<Execution>, Failure> {
    let unknown = || problem(StatusCode::NOT_FOUND, "no_such_execution", "no such execution");
    let id: ExecId = id.parse().map_err(|_| unknown())?;
    runner.executions.find(id).ok_or_else(unknown)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, "bad_request", &error.to_string()))
}

/// A parameter of the query, percent-decoded.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found == name).then(|| {
            percent_encoding::percent_decode_str(value)
                .decode_utf8_lossy()
                .into_owned()
        })
    })
}

fn number(query: &str, name: &str) -> Result<u64, Failure> {
    parameter(query, name).map_or(Ok(0), |text| {
        text.parse().map_err(|_| {
            problem(
                StatusCode::BAD_REQUEST,
                "bad_request",
                &format!("{name} is not a number"),
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(
            parameter("root=%2Fa%20b&owner=1:2", "root"),
            Some("/a b".to_owned())
        );
        assert_eq!(parameter("root=/a&owner=1:2", "owner"), Some("1:2".to_owned()));
        assert_eq!(parameter("roots=/a", "root"), None);
    }
}
