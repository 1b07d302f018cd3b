//! A registry for builders that may reach nobody: it reads a layout on this machine, listens where it is told to, and
//! takes nothing.
//!
//! Steps of a build may speak to it too. They find the images that their own Dockerfile starts from.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use assay_core::digest::Digest;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    Descriptor, Layout, Manifest,
    exchange::{Body, of_file, whole},
    layout::{INDEX, MOST_JSON, read_plain},
};

const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";
/// Whoever connects and asks nothing is let go.
const ASKING: Duration = Duration::from_secs(30);
/// Builders fetch a few layers side by side. More than this waits.
const MOST_CONNECTIONS: usize = 64;

/// What is on offer: images of a layout by repository and tag, and all of the layout by digest.
#[derive(Debug)]
pub struct Shelf {
    layout: Layout,
    images: BTreeMap<String, BTreeMap<String, Descriptor>>,
}

/// What a path of the distribution API asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Version,
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
}

impl Shelf {
    /// An empty one.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            images: BTreeMap::new(),
        }
    }

    /// What it offers from.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Offers an image of the layout under this name.
    pub fn put(&mut self, repository: &str, tag: &str, image: Descriptor) {
        let tags = self.images.entry(repository.to_owned()).or_default();
        tags.insert(tag.to_owned(), image);
    }

    /// Answers whoever connects, until the listener fails.
    pub async fn serve(self, listener: TcpListener) -> io::Error {
        let offer = Arc::new(self);
        let mut open = JoinSet::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => return error,
            };
            while open.try_join_next().is_some() {}
            if open.len() >= MOST_CONNECTIONS {
                open.join_next().await;
            }
            open.spawn(Arc::clone(&offer).attend(stream));
        }
    }

    async fn attend(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let offer = Arc::clone(&self);
            async move { offer.answer(request.method(), request.uri().path()).await }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(ASKING)
            .serve_connection(TokioIo::new(stream), service);
        // Whoever leaves in the middle of an answer, or speaks TLS, has itself to blame.
        connection.await.ok();
    }

    async fn answer(&self, method: &Method, path: &str) -> Result<Response<Body>, http::Error> {
        if method != Method::GET && method != Method::HEAD {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
        }
        match asked(path) {
            Some(Asked::Version) => answer(JSON, 2).body(whole("{}".into())),
            Some(Asked::Manifest(repository, version)) => self.manifest(repository, version),
            Some(Asked::Blob(repository, digest)) => self.blob(repository, digest).await,
            None => refusal(StatusCode::NOT_FOUND, "UNSUPPORTED"),
        }
    }

    fn manifest(&self, repository: &str, version: &str) -> Result<Response<Body>, http::Error> {
        let Some(tags) = self.images.get(repository) else {
            return refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
        };
        let named = tags.get(version).map_or(version, |image| image.digest.as_str());
        let found = named.parse().ok().and_then(|digest: Digest| {
            let bytes = read_plain(&self.layout.blob(&digest), MOST_JSON).ok()?;
            let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
            // Other JSON of the layout is no manifest.
            (manifest.config.is_some() || !manifest.manifests.is_empty()).then_some((digest, bytes, manifest))
        });
        let Some((digest, bytes, manifest)) = found else {
            return refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        };
        let kind = if manifest.manifests.is_empty() {
            manifest.kind("")
        } else {
            manifest.kind(INDEX)
        };
        answer(kind, bytes.len() as u64)
            .header(DIGEST, digest.to_string())
            .body(whole(bytes.into()))
    }

    async fn blob(&self, repository: &str, digest: &str) -> Result<Response<Body>, http::Error> {
        if !self.images.contains_key(repository) {
            return refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
        }
        let path = digest.parse().map(|digest: Digest| self.layout.blob(&digest));
        let meta = path.as_ref().ok().and_then(|path| path.symlink_metadata().ok());
        match (path, meta.filter(std::fs::Metadata::is_file)) {
            (Ok(path), Some(meta)) => match of_file(&path).await {
                Ok(body) => answer(OCTETS, meta.len()).header(DIGEST, digest).body(body),
                Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            },
            _ => refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        }
    }
}

/// A repository's own name may have any of these words in it, so the last one counts.
fn asked(path: &str) -> Option<Asked<'_>> {
    let rest = path.strip_prefix("/v2")?.strip_prefix('/').unwrap_or_default();
    if rest.is_empty() {
        return matches!(path, "/v2" | "/v2/").then_some(Asked::Version);
    }
    if let Some((repository, version)) = rest.rsplit_once("/manifests/") {
        return Some(Asked::Manifest(repository, version));
    }
    let (repository, digest) = rest.rsplit_once("/blobs/")?;
    Some(Asked::Blob(repository, digest))
}

fn answer(kind: &str, length: u64) -> http::response::Builder {
    Response::builder()
        .header(VERSION, "registry/2.0")
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, length)
}

fn refusal(status: StatusCode, code: &str) -> Result<Response<Body>, http::Error> {
    let message = code.to_lowercase().replace('_', " ");
    let text = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    answer(JSON, text.len() as u64)
        .status(status)
        .body(whole(text.into()))
}

#[cfg(test)]
mod tests;
