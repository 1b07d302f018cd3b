//! The client of port 15020.

use std::{fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

use assay_core::{
    control::{
        runner::{Collect, Event, Execute, Health, Signal, Stored, Written},
        signature::{AUTH_HEADER, AUTH_TRAILER},
    },
    digest::Hasher,
    id::{ExecId, Fence, SandboxId},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncReadExt as _;

use super::{Caller, Error, build};
use crate::client::{self, Client};

/// Speaks to the runner of one sandbox.
#[derive(Debug)]
pub struct RunnerClient {
    caller: Caller,
}

impl RunnerClient {
    /// For the runner whose control answers at `address`. `seed` is the sandbox's.
    pub fn new(address: SocketAddr, sandbox: SandboxId, fence: Fence, seed: &[u8; 32]) -> Self {
        Self {
            caller: Caller::new(address, sandbox, fence, seed),
        }
    }

    /// Is it there, and does it take a phase?
    pub async fn health(&self) -> Result<Health, Error> {
        decode(&self.caller.health().await?)
    }

    /// Unpacks a tar below `root` as it comes from a file; `owner` is `uid:gid`, root when absent.
    pub async fn put_files(&self, root: &str, owner: Option<&str>, tar: &Path) -> Result<Stored, Error> {
        let mut path = format!("/v1/files?root={}", encoded(root));
        if let Some(owner) = owner {
            path = format!("{path}&owner={}", encoded(owner));
        }
        let file = |source| Error::File {
            path: tar.display().to_string(),
            source,
        };
        let size = tokio::fs::metadata(tar).await.map_err(file)?.len();
        let source = tokio::fs::File::open(tar).await.map_err(file)?;
        let (auth, nonce) = self.caller.sign(&Method::PUT, &path, None).await?;
        let request = Request::builder()
            .method(Method::PUT)
            .uri(self.caller.url(&path))
            .header(AUTH_HEADER, auth)
            .header(header::CONTENT_TYPE, "application/x-tar")
            .header(header::TRAILER, AUTH_TRAILER);
        let upload = Upload {
            source,
            hasher: Hasher::default(),
            nonce,
            signer: self.caller.signer.clone(),
            ended: false,
        };
        let frames = futures_util::stream::unfold(upload, Upload::next);
        // The answer comes after the last byte: a slow disk may take 4 MiB a second.
        let client = Client::new(UPLOAD_TIMEOUT + Duration::from_secs(size >> 22));
        let response = client
            .send(build(request, BodyExt::boxed(StreamBody::new(Box::pin(frames))))?)
            .await?;
        decode(&self.caller.read(response).await?)
    }

    /// The end of what a service beside main printed.
    pub async fn service_output(&self, name: &str) -> Result<Bytes, Error> {
        let path = format!("/v1/services/{}/output", encoded(name));
        let (response, _) = self.caller.call(Method::GET, &path, Bytes::new()).await?;
        self.caller.read(response).await
    }

    /// What was written to disk since the runner began.
    pub async fn written(&self) -> Result<Written, Error> {
        let (response, _) = self.caller.call(Method::GET, "/v1/disk", Bytes::new()).await?;
        decode(&self.caller.read(response).await?)
    }

    /// Asks for files and directories; see [`Collection`].
    pub async fn collect(&self, request: &Collect) -> Result<Collection, Error> {
        let response = self.stream(Method::POST, "/v1/collect", encode(request)?).await?;
        Ok(Collection { body: response })
    }

    /// Starts an execution, or attaches to the one that has its id.
    pub async fn execute(&self, request: &Execute) -> Result<Events, Error> {
        let body = self.stream(Method::POST, "/v1/execute", encode(request)?).await?;
        Ok(Events::new(body))
    }

    /// Attaches to an execution from these offsets of its streams; `None` where the runner does not know it.
    pub async fn attach(&self, exec: ExecId, stdout: u64, stderr: u64) -> Result<Option<Events>, Error> {
        let path = format!("/v1/execute/{exec}?stdout={stdout}&stderr={stderr}");
        match self.stream(Method::GET, &path, Bytes::new()).await {
            Ok(body) => Ok(Some(Events::new(body))),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to an execution's process group.
    pub async fn signal(&self, exec: ExecId, signal: i32) -> Result<(), Error> {
        let path = format!("/v1/execute/{exec}/signal");
        self.plain(&path, encode(&Signal { signal })?).await
    }

    /// Writes to an execution's standard input; nothing closes it.
    pub async fn stdin(&self, exec: ExecId, bytes: Bytes) -> Result<(), Error> {
        self.plain(&format!("/v1/execute/{exec}/stdin"), bytes).await
    }

    /// Kills every process but the runner.
    pub async fn kill(&self) -> Result<(), Error> {
        self.plain("/v1/kill", Bytes::new()).await
    }

    /// Ends the runner.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.plain("/v1/shutdown", Bytes::new()).await
    }

    async fn plain(&self, path: &str, body: Bytes) -> Result<(), Error> {
        let (response, _) = self.caller.call(Method::POST, path, body).await?;
        self.caller.read(response).await.map(|_| ())
    }

    async fn stream(&self, method: Method, path: &str, body: Bytes) -> Result<Incoming, Error> {
        let (response, _) = self.caller.call(method, path, body).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        self.caller.read(response).await?;
        Err(Error::Answer("no stream".to_owned()))
    }
}

/// A tar on its way up: its bytes, then the signature of all of them.
struct Upload {
    source: tokio::fs::File,
    hasher: Hasher,
    nonce: String,
    signer: assay_core::control::signature::Signer,
    ended: bool,
}

impl Upload {
    async fn next(mut self) -> Option<(std::io::Result<Frame<Bytes>>, Self)> {
        if self.ended {
            return None;
        }
        let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
        let frame = match self.source.read_buf(&mut buffer).await {
            Err(error) => {
                self.ended = true;
                Err(error)
            }
            Ok(0) => {
                self.ended = true;
                let content = std::mem::take(&mut self.hasher).finish();
                let trailer = self.signer.authorize_content(&self.nonce, &content);
                HeaderValue::try_from(trailer)
                    .map(|trailer| Frame::trailers(HeaderMap::from_iter([(TRAILER, trailer)])))
                    .map_err(std::io::Error::other)
            }
            Ok(_) => {
                self.hasher.update(&buffer);
                Ok(Frame::data(buffer.freeze()))
            }
        };
        Some((frame, self))
    }
}

/// A collection on its way: a tar whose first entry is `manifest.json`.
#[derive(Debug)]
pub struct Collection {
    body: Incoming,
}

impl Collection {
    /// The next bytes; `None` at the end. A collection that breaks off is an error, never a short one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        next_data(&mut self.body, IDLE_TIMEOUT).await
    }
}

/// The events of an execution, until its end.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// The next event; `None` when the connection has ended. Cancel-safe. It waits as long as the program is silent.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return decode(&line).map(Some);
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Error::Answer("an event is too long".to_owned()));
            }
            match next_data(&mut self.body, FOREVER).await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

async fn next_data(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, Error> {
    let broken = |message: String| {
        Error::Call(client::Error::Answer {
            url: "runner".to_owned(),
            message,
        })
    };
    loop {
        match tokio::time::timeout(patience, body.frame()).await {
            Err(_) => return Err(broken("nothing came for too long".to_owned())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(broken(error.to_string())),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::Answer(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Answer(error.to_string()))
}

/// Percent-encodes what is not plain in a query's value.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            encoded.push(char::from(byte));
        } else if write!(encoded, "%{byte:02X}").is_err() {
            return encoded;
        }
    }
    encoded
}

const TRAILER: header::HeaderName = header::HeaderName::from_static(AUTH_TRAILER);
const BUFFER_BYTES: usize = 64 << 10;
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(1);
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// The caller asks for health meanwhile.
const FOREVER: Duration = Duration::from_hours(720);
/// Of one event; the runner's pieces are far smaller.
const LONGEST_LINE: usize = 8 << 20;
