//! A small HTTP client: pooled connections, HTTP or HTTPS, a deadline and a size cap for every call.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde::{Serialize, de::DeserializeOwned};

/// What a request's body can be.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be built: a URL or header that is none.
    #[error("cannot build the request: {0}")]
    Invalid(String),
    /// No connection, or it broke.
    #[error("{url}: {message}")]
    Connection {
        /// Where to.
        url: String,
        /// What happened.
        message: String,
    },
    /// No answer in time.
    #[error("{url}: no answer within {seconds} s")]
    Timeout {
        /// Where to.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The answer was longer than allowed, or broke off.
    #[error("{url}: cannot read the answer: {message}")]
    Answer {
        /// Where to.
        url: String,
        /// What happened.
        message: String,
    },
    /// The server refused.
    #[error("{status}: {}", problem.detail)]
    Problem {
        /// The status.
        status: StatusCode,
        /// Its body, or one made from the status when it had none.
        problem: Box<assay_core::problem::Problem>,
    },
}

impl Error {
    /// May the same call succeed later? Only for calls that are idempotent.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Invalid(_) => false,
            Self::Connection { .. } | Self::Timeout { .. } | Self::Answer { .. } => true,
            Self::Problem { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }

    /// The stable code of a problem body.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } => Some(&problem.code),
            Self::Invalid(_) | Self::Connection { .. } | Self::Timeout { .. } | Self::Answer { .. } => None,
        }
    }
}

/// A pooled client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Body>,
    timeout: Duration,
}

impl Client {
    /// A client whose calls may take `timeout` until the answer's head is there, and again for a buffered body.
    pub fn new(timeout: Duration) -> Self {
        Self::build(timeout, public_roots(), None)
    }

    /// A client for one service, which may be called by its address: its certificate must name `host`, and may come from
    /// the extra root. An extra root that is none is left out.
    pub fn of_service(timeout: Duration, host: &str, root_pem: Option<&str>) -> Self {
        let mut roots = public_roots();
        let extra = CertificateDer::pem_slice_iter(root_pem.unwrap_or_default().as_bytes());
        roots.add_parsable_certificates(extra.filter_map(Result::ok));
        Self::build(timeout, roots, ServerName::try_from(host.to_owned()).ok())
    }

    fn build(timeout: Duration, roots: RootCertStore, name: Option<ServerName<'static>>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_secs(10)));
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|config| config.with_root_certificates(roots).with_no_client_auth());
        let tls = tls.unwrap_or_else(|_| {
            rustls::ClientConfig::builder()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        });
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let connector = match name {
            Some(name) => connector.with_server_name_resolver(FixedServerNameResolver::new(name)),
            None => connector,
        };
        let connector = connector.enable_http1().wrap_connector(http);
        Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            timeout,
        }
    }

    /// Sends a request and returns once the answer's head is there, whatever its status.
    ///
    /// # Errors
    /// No connection, or no answer in time.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let url = without_query(request.uri());
        match tokio::time::timeout(self.timeout, self.pool.request(request)).await {
            Err(_) => Err(Error::Timeout {
                url,
                seconds: self.timeout.as_secs(),
            }),
            Ok(Err(error)) => Err(Error::Connection {
                url,
                message: with_sources(&error),
            }),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Sends a JSON body (or none) with a bearer token and reads a JSON answer of at most 32 MiB.
    ///
    /// # Errors
    /// As [`Self::send`]; [`Error::Problem`] for every status but 2xx; an answer that is not the JSON expected.
    pub async fn json<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<&B>,
    ) -> Result<A, Error> {
        let bytes = self.call(method, url, token, body).await?;
        // A 204 has no body; `null` lets the unit type stand for it.
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| Error::Answer {
            url: url.to_owned(),
            message: error.to_string(),
        })
    }

    async fn call<B: Serialize + Sync>(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<&B>,
    ) -> Result<Bytes, Error> {
        let content = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if content.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(full(content.unwrap_or_default()))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let url = without_query(request.uri());
        let response = self.send(request).await?;
        let status = response.status();
        let bytes = self.read(response, &url).await?;
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(problem(status, &bytes))
        }
    }

    /// Reads a whole body of at most 32 MiB.
    ///
    /// # Errors
    /// Longer than that, broken off, or not there in time.
    pub async fn read(&self, response: Response<Incoming>, url: &str) -> Result<Bytes, Error> {
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        match tokio::time::timeout(self.timeout, body.collect()).await {
            Err(_) => Err(Error::Timeout {
                url: url.to_owned(),
                seconds: self.timeout.as_secs(),
            }),
            Ok(Err(error)) => Err(Error::Answer {
                url: url.to_owned(),
                message: error.to_string(),
            }),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
        }
    }
}

fn public_roots() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// The error for an answer that is not 2xx.
pub fn problem(status: StatusCode, body: &[u8]) -> Error {
    let problem = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
        assay_core::problem::Problem::new(status.as_u16(), "unexpected_answer", text)
    });
    Error::Problem {
        status,
        problem: Box::new(problem),
    }
}

/// Presigned URLs carry their permission in the query, so it stays out of messages.
fn without_query(uri: &http::Uri) -> String {
    uri.to_string().split('?').next().unwrap_or_default().to_owned()
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

const MAX_ANSWER_BYTES: usize = 32 << 20;
