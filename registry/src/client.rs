//! A registry's repository: who we are there, its manifests and small blobs.

use std::collections::BTreeMap;

use assay_core::digest::Digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    Error, Reference, Registries,
    exchange::{Answer, Body, Http, empty, get},
    layout::Descriptor,
};

/// Redirects that are followed: registries keep blobs elsewhere.
const REDIRECTS: usize = 4;
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Asks registries.
#[derive(Debug, Default)]
pub struct Client {
    registries: Registries,
    pub(crate) http: Http,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    /// A client that looks where `registries` say.
    pub fn new(registries: Registries) -> Self {
        Self {
            registries,
            http: Http::default(),
        }
    }

    /// The repository that a name lies in.
    pub fn repository<'a>(&'a self, reference: &'a Reference) -> Repository<'a> {
        Repository {
            client: self,
            reference,
            bearer: Mutex::new(None),
        }
    }
}

/// A repository, with what its registry gave us to prove who we are.
#[derive(Debug)]
pub struct Repository<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reference: &'a Reference,
    bearer: Mutex<Option<String>>,
}

impl Repository<'_> {
    /// A manifest or an index by tag or digest, and its digest: computed, not read from a header, as nodes do.
    ///
    /// # Errors
    /// [`Error::NotThere`] where the registry says so, and nowhere else.
    pub async fn manifest(&self, version: &str) -> Result<(Digest, Bytes), Error> {
        let body = self.small(&format!("manifests/{version}")).await?;
        let digest = Digest::of(&body);
        if version.contains(':') && version != digest.to_string() {
            return Err(Error::Wrong(format!(
                "{} came with digest {digest}",
                self.reference.given
            )));
        }
        Ok((digest, body))
    }

    /// A blob of a few KiB: a configuration.
    pub async fn blob(&self, digest: &str) -> Result<Bytes, Error> {
        let body = self.small(&format!("blobs/{digest}")).await?;
        if Digest::of(&body).to_string() != digest {
            return Err(Error::Wrong(format!("blob {digest} came with other bytes")));
        }
        Ok(body)
    }

    async fn small(&self, path: &str) -> Result<Bytes, Error> {
        let answer = self.fetch(&self.url(path)).await?;
        self.judge(&answer)?;
        Ok(answer.body)
    }

    /// Success, or what the refusal means.
    pub(crate) fn judge(&self, answer: &Answer) -> Result<(), Error> {
        let name = &self.reference.given;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(Error::NotThere(name.clone())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Refused(format!(
                "{name}: the registry does not allow it with these credentials"
            ))),
            status => {
                let said = String::from_utf8_lossy(&answer.body);
                let said: String = said.chars().take(SAID).collect();
                Err(Error::Away(format!("{} answered {status} {said}", self.base())))
            }
        }
    }

    /// Follows redirects; credentials stay with the registry itself.
    async fn fetch(&self, url: &str) -> Result<Answer, Error> {
        let mut answer = self.call(Method::GET, url, empty_body, 0).await?;
        for _ in 0..REDIRECTS {
            match elsewhere(answer.status, &answer.headers) {
                Some(next) => answer = self.client.http.ask(get(&next)?, 0).await?,
                None => return Ok(answer),
            }
        }
        Err(Error::Away("too many redirects".to_owned()))
    }

    /// One request to the registry itself; logs in where it asks for that, and then asks again.
    pub(crate) async fn call<B, F>(
        &self,
        method: Method,
        url: &str,
        body: B,
        bytes: u64,
    ) -> Result<Answer, Error>
    where
        B: Fn() -> F,
        F: Future<Output = Result<(Body, Option<&'static str>), Error>>,
    {
        let answer = self.once(&method, url, body().await?, bytes).await?;
        if answer.status == StatusCode::UNAUTHORIZED && self.log_in(&answer.headers).await? {
            return self.once(&method, url, body().await?, bytes).await;
        }
        Ok(answer)
    }

    async fn once(
        &self,
        method: &Method,
        url: &str,
        (body, kind): (Body, Option<&'static str>),
        bytes: u64,
    ) -> Result<Answer, Error> {
        let mut request = self.request(method, url).await;
        if let Some(kind) = kind {
            request = request
                .header(header::CONTENT_TYPE, kind)
                .header(header::CONTENT_LENGTH, bytes);
        }
        let request = request.body(body).map_err(|error| Error::away(&error))?;
        self.client.http.ask(request, bytes).await
    }

    /// With accepted types and credentials.
    pub(crate) async fn request(&self, method: &Method, url: &str) -> http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::ACCEPT, ACCEPT);
        let bearer = self
            .bearer
            .lock()
            .await
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        match bearer.or_else(|| self.basic()) {
            Some(login) => request.header(header::AUTHORIZATION, login),
            None => request,
        }
    }

    fn basic(&self) -> Option<String> {
        let (user, password) = self.client.registries.credentials.get(&self.reference.host)?;
        let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
        Some(format!("Basic {pair}"))
    }

    /// Gets the token that the registry asks for; false where it asks for none, or gave us one before.
    pub(crate) async fn log_in(&self, headers: &HeaderMap) -> Result<bool, Error> {
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
        let request = request.body(empty()).map_err(|error| Error::away(&error))?;
        let answer = self.client.http.ask(request, 0).await?;
        if !answer.status.is_success() {
            return Ok(false);
        }
        let token: Token = serde_json::from_slice(&answer.body).map_err(|error| Error::away(&error))?;
        let fresh = token.token.or(token.access_token);
        let mut bearer = self.bearer.lock().await;
        let is_new = fresh.is_some() && *bearer != fresh;
        *bearer = fresh;
        Ok(is_new)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base(), self.reference.repository)
    }

    pub(crate) fn base(&self) -> String {
        let host = &self.reference.host;
        let mirror = self.client.registries.mirrors.get(host);
        mirror.map_or_else(
            || match host.as_str() {
                "docker.io" => "https://registry-1.docker.io".to_owned(),
                host => format!("https://{host}"),
            },
            |base| base.trim_end_matches('/').to_owned(),
        )
    }
}

/// Of an index, the image for the nodes. They are of this program's own platform.
pub fn own_platform(all: &[Descriptor]) -> Option<&Descriptor> {
    let own = crate::architecture();
    let fits = |one: &&Descriptor| {
        one.platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == own)
    };
    all.iter().find(fits).or(all.first())
}

pub(crate) async fn empty_body() -> Result<(Body, Option<&'static str>), Error> {
    Ok((empty(), None))
}

/// Where a redirect leads.
pub(crate) fn elsewhere(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    let next = headers.get(header::LOCATION)?.to_str().ok()?;
    (status.is_redirection() && next.contains("://")).then(|| next.to_owned())
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

/// How much of a refusal's body is repeated.
const SAID: usize = 300;

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
