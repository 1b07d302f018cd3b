//! One HTTP exchange after the other, over plain HTTP or TLS, each with its own longest wait.

use std::{path::Path, time::Duration};

use assay_core::digest::{Digest, Hasher};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::Error;

/// Longest wait for an answer's head, for the next piece of its body, and for a connection.
const ANSWER: Duration = Duration::from_secs(20);
/// A body that we send may take this much longer for each MiB.
const PER_MIB: Duration = Duration::from_secs(1);
/// Manifests and configurations are a few KiB.
const MOST_BYTES: usize = 4 << 20;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// A client with pooled connections.
#[derive(Debug)]
pub struct Http(Pool<hyper_rustls::HttpsConnector<HttpConnector>, Body>);

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Default for Http {
    fn default() -> Self {
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(ANSWER));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        Self(Pool::builder(TokioExecutor::new()).build(connector))
    }
}

impl Http {
    /// Sends and reads the whole answer, which is short.
    pub(crate) async fn ask(&self, request: Request<Body>, sent_bytes: u64) -> Result<Answer, Error> {
        let (head, body) = self.head(request, sent_bytes).await?.into_parts();
        let read = Limited::new(body, MOST_BYTES).collect();
        let body = tokio::time::timeout(ANSWER, read)
            .await
            .map_err(|_| silent())?
            .map_err(|error| Error::away(&error))?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// Sends, and returns as soon as the answer's head is there.
    pub(crate) async fn head(
        &self,
        request: Request<Body>,
        sent_bytes: u64,
    ) -> Result<http::Response<Incoming>, Error> {
        let pieces = u32::try_from(sent_bytes >> 20).unwrap_or(u32::MAX);
        let limit = ANSWER + PER_MIB.saturating_mul(pieces);
        tokio::time::timeout(limit, self.0.request(request))
            .await
            .map_err(|_| silent())?
            .map_err(|error| Error::Away(with_sources(&error)))
    }

    /// Gets what is at a URL into a file of at most `most` bytes. Answers its size and digest.
    ///
    /// # Errors
    /// [`Error::Refused`] for 401, 403 and 404, [`Error::Wrong`] for more bytes than allowed.
    pub async fn download(&self, url: &str, most: u64, into: &Path) -> Result<(u64, Digest), Error> {
        let answer = self.head(get(url)?, 0).await?;
        match answer.status() {
            StatusCode::OK => save(answer.into_body(), most, into).await,
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => Err(
                Error::Refused(format!("{} answered {status}", without_query(url))),
            ),
            status => Err(Error::Away(format!("{} answered {status}", without_query(url)))),
        }
    }
}

/// Writes a body into a file, hashing it on the way.
pub(crate) async fn save(mut body: Incoming, most: u64, into: &Path) -> Result<(u64, Digest), Error> {
    let mut file = tokio::fs::File::create(into).await.map_err(Error::file(into))?;
    let (mut hasher, mut taken) = (Hasher::default(), 0_u64);
    loop {
        let next = tokio::time::timeout(ANSWER, body.frame()).await;
        let Some(frame) = next.map_err(|_| silent())? else {
            break;
        };
        let Ok(bytes) = frame.map_err(|error| Error::away(&error))?.into_data() else {
            continue;
        };
        taken += bytes.len() as u64;
        if taken > most {
            return Err(Error::Wrong(format!(
                "more than the {most} bytes that were announced"
            )));
        }
        hasher.update(&bytes);
        file.write_all(&bytes).await.map_err(Error::file(into))?;
    }
    file.flush().await.map_err(Error::file(into))?;
    Ok((taken, hasher.finish()))
}

pub(crate) fn get(url: &str) -> Result<Request<Body>, Error> {
    Request::get(url)
        .body(empty())
        .map_err(|error| Error::away(&error))
}

pub(crate) fn empty() -> Body {
    whole(Bytes::new())
}

pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

pub(crate) async fn of_file(path: &Path) -> Result<Body, Error> {
    let file = tokio::fs::File::open(path).await.map_err(Error::file(path))?;
    let pieces = ReaderStream::with_capacity(file, 64 << 10).map_ok(Frame::data);
    Ok(BodyExt::boxed(StreamBody::new(pieces)))
}

fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn silent() -> Error {
    Error::Away(format!("no answer within {} s", ANSWER.as_secs()))
}

/// A presigned URL is a credential.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
