//! The calls of the API that people need, typed.

use std::{path::Path, time::Duration};

use assay_core::{
    digest::Digest,
    id::{AgentId, AttemptId, EvaluationId, RunId},
    limits::LimitSettings,
    wire::channel::Channel,
    wire::people::{
        Agent, Artifact, Attempt, Clock, Evaluation, Event, Key, NewAgent, NewEvaluation, NewKey, NewTask,
        NewUpload, Output, Page, Recording, Revoked, Run, Task, Upload, Version,
    },
};
use assay_runtime::client::{self, Client};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::{error::Error, profile::Profile};

/// An API and the key that opens it.
#[derive(Debug, Clone)]
pub struct Api {
    profile: Profile,
    http: Client,
    objects: Client,
}

/// A stretch of a stream of output.
#[derive(Debug)]
pub struct Stretch {
    /// The bytes, perhaps none.
    pub bytes: Bytes,
    /// Where the next stretch begins.
    pub next_offset: u64,
}

impl Api {
    /// An API by its profile.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            http: Client::new(Duration::from_secs(30)),
            objects: Client::new(Duration::from_mins(10)),
        }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.profile.api
    }

    /// Which build answers.
    pub async fn version(&self) -> Result<Version, Error> {
        self.get("/version").await
    }

    /// What time it is there.
    pub async fn clock(&self) -> Result<Clock, Error> {
        self.get("/v1/clock").await
    }

    /// Announces an object.
    pub async fn announce(&self, upload: &NewUpload) -> Result<Upload, Error> {
        self.post("/v1/uploads", upload).await
    }

    /// Registers an uploaded task. The API reads the whole archive before it answers.
    pub async fn register_task(&self, task: &NewTask) -> Result<Task, Error> {
        self.post_by(&self.objects, "/v1/tasks", task).await
    }

    /// A registered task.
    pub async fn task(&self, digest: Digest) -> Result<Task, Error> {
        self.get(&format!("/v1/tasks/{digest}")).await
    }

    /// Registers an agent. The API reads its whole bundle before it answers.
    pub async fn register_agent(&self, agent: &NewAgent) -> Result<Agent, Error> {
        self.post_by(&self.objects, "/v1/agents", agent).await
    }

    /// A registered agent.
    pub async fn agent(&self, id: AgentId) -> Result<Agent, Error> {
        self.get(&format!("/v1/agents/{id}")).await
    }

    /// Keeps the recording of a run's last attempt, so that later runs can be answered from it.
    pub async fn keep_recording(&self, id: RunId) -> Result<Recording, Error> {
        self.post(&format!("/v1/runs/{id}/recording"), &serde_json::json!({}))
            .await
    }

    /// Submits an evaluation. Tried again with the same key when the answer is lost: the key makes it one evaluation.
    pub async fn submit(
        &self,
        evaluation: &NewEvaluation,
        idempotency_key: &str,
    ) -> Result<Evaluation, Error> {
        let content = serde_json::to_vec(evaluation).map_err(|error| Error::Software(error.to_string()))?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_submit(&content, idempotency_key).await {
                Err(error) if error.is_transient() && tries < 4 => {
                    tokio::time::sleep(Duration::from_millis(250 << tries)).await;
                }
                done => return Ok(done?),
            }
        }
    }

    async fn try_submit(&self, content: &[u8], key: &str) -> Result<Evaluation, client::Error> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/evaluations", self.profile.api))
            .header(header::AUTHORIZATION, self.bearer())
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(client::full(content.to_vec()))
            .map_err(|error| client::Error::Invalid(error.to_string()))?;
        let bytes = self.answer(request).await?.1;
        serde_json::from_slice(&bytes).map_err(|error| client::Error::Answer {
            url: format!("{}/v1/evaluations", self.profile.api),
            message: error.to_string(),
        })
    }

    /// An evaluation.
    pub async fn evaluation(&self, id: EvaluationId) -> Result<Evaluation, Error> {
        self.get(&format!("/v1/evaluations/{id}")).await
    }

    /// The newest evaluations, at most `number`.
    pub async fn evaluations(&self, number: u32) -> Result<Vec<Evaluation>, Error> {
        self.pages("/v1/evaluations", usize::try_from(number).unwrap_or(usize::MAX))
            .await
    }

    /// Cancels an evaluation.
    pub async fn cancel_evaluation(&self, id: EvaluationId) -> Result<Evaluation, Error> {
        self.post(&format!("/v1/evaluations/{id}/cancel"), &serde_json::json!({}))
            .await
    }

    /// Cancels a run.
    pub async fn cancel_run(&self, id: RunId) -> Result<Run, Error> {
        self.post(&format!("/v1/runs/{id}/cancel"), &serde_json::json!({}))
            .await
    }

    /// Every run of an evaluation.
    pub async fn runs(&self, id: EvaluationId) -> Result<Vec<Run>, Error> {
        self.pages(&format!("/v1/runs?evaluation={id}"), usize::MAX).await
    }

    /// A run.
    pub async fn run(&self, id: RunId) -> Result<Run, Error> {
        self.get(&format!("/v1/runs/{id}")).await
    }

    /// Every attempt of a run, the first one first.
    pub async fn attempts(&self, id: RunId) -> Result<Vec<Attempt>, Error> {
        let mut attempts: Vec<Attempt> = self.pages(&format!("/v1/runs/{id}/attempts"), usize::MAX).await?;
        attempts.sort_by_key(|attempt| attempt.number);
        Ok(attempts)
    }

    /// The events of an attempt.
    pub async fn events(&self, id: AttemptId) -> Result<Vec<Event>, Error> {
        self.pages(&format!("/v1/attempts/{id}/events"), 10_000).await
    }

    /// Which streams of output an attempt has, once all of them together have more than `beyond` bytes or it has ended;
    /// waits for that at most `patience`.
    pub async fn outputs(
        &self,
        id: AttemptId,
        beyond: u64,
        patience: Duration,
    ) -> Result<Vec<Output>, Error> {
        let wait_ms = patience.as_millis();
        let path = format!("/v1/attempts/{id}/outputs?beyond={beyond}&wait_ms={wait_ms}");
        self.pages(&path, usize::MAX).await
    }

    /// The operator's defaults and maxima of limits.
    pub async fn limits(&self) -> Result<LimitSettings, Error> {
        self.get("/v1/limits").await
    }

    /// What an attempt left.
    pub async fn artifacts(&self, id: AttemptId) -> Result<Vec<Artifact>, Error> {
        self.pages(&format!("/v1/attempts/{id}/artifacts"), usize::MAX)
            .await
    }

    /// The next stretch of a stream of output.
    pub async fn output(
        &self,
        id: AttemptId,
        (step, channel): (u32, Channel),
        offset: u64,
    ) -> Result<Stretch, Error> {
        let path = format!(
            "/v1/attempts/{id}/output?step={step}&phase={}&stream={}&offset={offset}",
            channel.phase(),
            channel.stream()
        );
        let request = Request::builder()
            .uri(format!("{}{path}", self.profile.api))
            .header(header::AUTHORIZATION, self.bearer())
            .body(client::full(Bytes::new()))
            .map_err(|error| client::Error::Invalid(error.to_string()))?;
        let (headers, bytes) = self.answer(request).await?;
        let told = headers
            .get("assay-next-offset")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let counted = offset + u64::try_from(bytes.len()).unwrap_or(0);
        let next_offset = told.unwrap_or(counted);
        Ok(Stretch { bytes, next_offset })
    }

    /// Makes a key.
    pub async fn create_key(&self, key: &NewKey) -> Result<Key, Error> {
        self.post("/v1/keys", key).await
    }

    /// Revokes every key of that name.
    pub async fn revoke_key(&self, name: &str) -> Result<Revoked, Error> {
        let name = escape(name);
        let url = format!("{}/v1/keys/{name}", self.profile.api);
        Ok(self
            .http
            .json(Method::DELETE, &url, Some(self.profile.key.expose()), None::<&()>)
            .await?)
    }

    /// Puts a file where a presigned URL says.
    pub async fn put_file(&self, url: &str, path: &Path, size_bytes: u64) -> Result<(), Error> {
        let unreadable = |error: &std::io::Error| Error::unreadable(path, error);
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|error| unreadable(&error))?;
        let body = StreamBody::new(ReaderStream::with_capacity(file, 64 << 10).map_ok(Frame::data)).boxed();
        let request = Request::put(url)
            .header(header::CONTENT_LENGTH, size_bytes)
            .body(body)
            .map_err(|error| client::Error::Invalid(error.to_string()))?;
        let response = self.objects.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = self.objects.read(response, "the object store").await?;
        Err(Error::Unavailable(format!(
            "the object store refused the upload ({status}): {}; try again, or look at the API's log",
            String::from_utf8_lossy(&text)
                .chars()
                .take(200)
                .collect::<String>()
        )))
    }

    /// Fetches an artifact and checks it against its digest.
    pub async fn fetch<W: tokio::io::AsyncWrite + Unpin>(
        &self,
        artifact: &Artifact,
        sink: &mut W,
    ) -> Result<(), Error> {
        let broken = |what: String| Error::Unavailable(format!("{}: {what}; try again", artifact.name));
        let request = Request::get(&artifact.url)
            .body(client::full(Bytes::new()))
            .map_err(|error| client::Error::Invalid(error.to_string()))?;
        let response = self.objects.send(request).await?;
        if !response.status().is_success() {
            return Err(broken(format!("the object store answered {}", response.status())));
        }
        let mut body = response.into_body();
        let mut hasher = assay_core::digest::Hasher::default();
        while let Some(frame) = tokio::time::timeout(Duration::from_mins(1), body.frame())
            .await
            .map_err(|_| broken("nothing came for a minute".to_owned()))?
        {
            let frame = frame.map_err(|error| broken(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                hasher.update(&data);
                let failed = |error: std::io::Error| {
                    Error::CannotWrite(format!("cannot write {}: {error}", artifact.name))
                };
                sink.write_all(&data).await.map_err(failed)?;
            }
        }
        if hasher.finish() == artifact.digest {
            Ok(())
        } else {
            Err(broken(
                "its content does not have the digest that names it".to_owned(),
            ))
        }
    }

    async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Error> {
        let url = format!("{}{path}", self.profile.api);
        Ok(self
            .http
            .json(Method::GET, &url, Some(self.profile.key.expose()), None::<&()>)
            .await?)
    }

    async fn post<B: Serialize + Sync, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, Error> {
        self.post_by(&self.http, path, body).await
    }

    async fn post_by<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        body: &B,
    ) -> Result<A, Error> {
        let url = format!("{}{path}", self.profile.api);
        Ok(client
            .json(Method::POST, &url, Some(self.profile.key.expose()), Some(body))
            .await?)
    }

    async fn pages<T: DeserializeOwned>(&self, path: &str, most: usize) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut path = path.to_owned();
            if let Some(cursor) = &cursor {
                path = format!(
                    "{path}{}cursor={}",
                    if path.contains('?') { '&' } else { '?' },
                    escape(cursor)
                );
            }
            let page: Page<T> = self.get(&path).await?;
            items.extend(page.items);
            if items.len() >= most || page.next.is_none() {
                items.truncate(most);
                return Ok(items);
            }
            cursor = page.next;
        }
    }

    async fn answer(
        &self,
        request: Request<client::Body>,
    ) -> Result<(http::HeaderMap, Bytes), client::Error> {
        let url = request.uri().path().to_owned();
        let response = self.http.send(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = self.http.read(response, &url).await?;
        if status.is_success() {
            Ok((headers, bytes))
        } else {
            Err(client::problem(status, &bytes))
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.profile.key.expose())
    }
}

/// Percent-encodes what a query cannot hold as it is.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn cursors_are_escaped() {
        assert_eq!(escape("a+b/c=é"), "a%2Bb%2Fc%3D%C3%A9");
    }
}
