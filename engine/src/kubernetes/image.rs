//! What a registry says about an image: its digest, and how its programs want to run.
//!
//! Neither a pod nor its status tells an image's user or environment, so the registry is asked, once for each image. It
//! answers in three ways: here it is, there is none, or (an error that may pass) nobody knows.

use std::{collections::BTreeMap, time::Duration};

use assay_core::digest::Digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};

use super::{reference::Reference, settings::Registries};
use crate::{Error, shape};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Manifests and configurations are a few KiB.
const MOST_BYTES: usize = 4 << 20;
/// Redirects that are followed: registries keep blobs elsewhere.
const REDIRECTS: usize = 4;
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// What an image says about how its programs want to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub workdir: String,
    pub user: String,
    pub env: BTreeMap<String, String>,
}

/// An image that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name with its digest: what a pod is made from.
    pub pinned: String,
    pub facts: Facts,
}

/// Asks registries.
#[derive(Debug)]
pub(super) struct Lookup {
    registries: Registries,
    client: Client<hyper_rustls::HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Image {
    config: Option<ImageConfig>,
}

#[derive(Deserialize)]
struct ImageConfig {
    #[serde(rename = "WorkingDir")]
    workdir: Option<String>,
    #[serde(rename = "User")]
    user: Option<String>,
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Lookup {
    pub(super) fn new(registries: Registries) -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_or_http()
            .enable_http1()
            .build();
        Self {
            registries,
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// The image by that name. One that does not exist is [`Error::NoImage`]; a registry that is away is a fault that passes.
    pub(super) async fn find(&self, image: &str) -> Result<Found, Error> {
        let reference = Reference::parse(image).ok_or_else(|| Error::NoImage(image.to_owned()))?;
        let mut asking = Asking {
            lookup: self,
            reference: &reference,
            bearer: None,
        };
        let (top, body) = asking.manifest(&reference.version).await?;
        let mut manifest: Manifest = read(&body)?;
        if let Some(own) = own_platform(&manifest.manifests) {
            manifest = read(&asking.manifest(own).await?.1)?;
        }
        let config = manifest.config.ok_or_else(|| Error::NoImage(image.to_owned()))?;
        let body = asking.get(&format!("blobs/{}", config.digest)).await?.1;
        let image: Image = read(&body)?;
        Ok(Found {
            pinned: reference.pinned(&top),
            facts: image.config.map(facts).unwrap_or_default(),
        })
    }
}

/// One image's registry, with what it gave us to prove who we are.
struct Asking<'a> {
    lookup: &'a Lookup,
    reference: &'a Reference,
    bearer: Option<String>,
}

impl Asking<'_> {
    /// A manifest, and its digest.
    async fn manifest(&mut self, version: &str) -> Result<(String, Bytes), Error> {
        let (_, body) = self.get(&format!("manifests/{version}")).await?;
        // Computed, not read from a header: it is what nodes compare with.
        Ok((Digest::of(&body).to_string(), body))
    }

    async fn get(&mut self, path: &str) -> Result<(HeaderMap, Bytes), Error> {
        let name = &self.reference.repository;
        let url = format!("{}/v2/{name}/{path}", self.base());
        let (status, headers, body) = self.fetch(&url).await?;
        if status == StatusCode::UNAUTHORIZED && self.bearer.is_none() && self.log_in(&headers).await? {
            let (status, headers, body) = self.fetch(&url).await?;
            return self.judge(status, headers, body);
        }
        self.judge(status, headers, body)
    }

    fn judge(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), Error> {
        match status {
            StatusCode::OK => Ok((headers, body)),
            StatusCode::NOT_FOUND => Err(Error::NoImage(self.reference.given.clone())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Refused {
                operation: "ask the registry",
                message: format!("{} may not be read with these credentials", self.reference.given),
            }),
            status => Err(away(&format!("{} answered {status}", self.base()))),
        }
    }

    /// Follows redirects; credentials stay with the registry itself.
    async fn fetch(&self, url: &str) -> Result<(StatusCode, HeaderMap, Bytes), Error> {
        let mut url = String::from(url);
        let mut login = self.authorization();
        for _ in 0..REDIRECTS {
            let mut request = Request::get(&url).header(header::ACCEPT, ACCEPT);
            if let Some(login) = &login {
                request = request.header(header::AUTHORIZATION, login);
            }
            let request = request.body(Empty::new()).map_err(|error| away(&error))?;
            let (status, headers, body) = self.lookup.send(request).await?;
            let next = headers
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok());
            match next {
                Some(next) if status.is_redirection() && next.contains("://") => {
                    url = String::from(next);
                    login = None;
                }
                _ => return Ok((status, headers, body)),
            }
        }
        Err(away(&"too many redirects"))
    }

    fn authorization(&self) -> Option<String> {
        if let Some(token) = &self.bearer {
            return Some(format!("Bearer {token}"));
        }
        self.basic()
    }

    fn basic(&self) -> Option<String> {
        let (user, password) = self.lookup.registries.credentials.get(&self.reference.host)?;
        let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
        Some(format!("Basic {pair}"))
    }

    /// Gets the token that the registry asks for; false where it asks for none.
    async fn log_in(&mut self, headers: &HeaderMap) -> Result<bool, Error> {
        let challenge = headers
            .get(header::WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        let Some((realm, query)) = challenge.and_then(token_address) else {
            return Ok(false);
        };
        let mut request = Request::get(format!("{realm}?{query}"));
        if let Some(basic) = self.basic() {
            request = request.header(header::AUTHORIZATION, basic);
        }
        let request = request.body(Empty::new()).map_err(|error| away(&error))?;
        let (status, _, body) = self.lookup.send(request).await?;
        if !status.is_success() {
            return Ok(false);
        }
        let token: Token = read(&body)?;
        self.bearer = token.token.or(token.access_token);
        Ok(self.bearer.is_some())
    }

    fn base(&self) -> String {
        let host = &self.reference.host;
        let mirror = self.lookup.registries.mirrors.get(host);
        mirror.map_or_else(
            || match host.as_str() {
                "docker.io" => "https://registry-1.docker.io".to_owned(),
                host => format!("https://{host}"),
            },
            |base| base.trim_end_matches('/').to_owned(),
        )
    }
}

impl Lookup {
    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<(StatusCode, HeaderMap, Bytes), Error> {
        let ask = async {
            let answer = self.client.request(request).await.map_err(|error| away(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MOST_BYTES)
                .collect()
                .await
                .map_err(|error| away(&error))?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        tokio::time::timeout(ANSWER, ask)
            .await
            .unwrap_or(Err(Error::Timeout {
                operation: "ask the registry",
                seconds: ANSWER.as_secs(),
            }))
    }
}

fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Of an index, the image for the nodes. They are of this program's own platform.
fn own_platform(all: &[Descriptor]) -> Option<&str> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |one: &&Descriptor| {
        one.platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == own)
    };
    Some(&all.iter().find(fits).or(all.first())?.digest)
}

fn facts(config: ImageConfig) -> Facts {
    Facts {
        workdir: config.workdir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        env: shape::env(config.env),
    }
}

/// `Bearer realm="https://…",service="…",scope="…"` as an address and its query.
fn token_address(challenge: &str) -> Option<(String, String)> {
    let fields: BTreeMap<&str, &str> = challenge
        .strip_prefix("Bearer ")?
        .split("\",")
        .filter_map(|part| part.trim().trim_end_matches('"').split_once("=\""))
        .collect();
    let query: Vec<String> = ["service", "scope"]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", fields.get(name)?)))
        .collect();
    Some(((*fields.get("realm")?).to_owned(), query.join("&")))
}

fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| away(&format!("what it says cannot be read: {error}")))
}

fn away(message: &dyn std::fmt::Display) -> Error {
    Error::Unavailable {
        operation: "ask the registry",
        message: message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_becomes_the_address_of_a_token() {
        let (realm, query) = token_address(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#,
        )
        .unwrap();
        assert_eq!(realm, "https://auth.example/token");
        assert_eq!(query, "service=registry.example&scope=repository:a/b:pull");
        assert!(token_address("Basic realm=\"x\"").is_none());
    }
}
