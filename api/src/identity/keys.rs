//! The public keys of a token issuer (JWKS, RFC 7517), fetched when they are needed and kept for a while.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use assay_runtime::client::{self, Client};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Uri};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::token::Key;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none.
    #[error("{0:?} is no URL")]
    Url(String),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The issuer did not answer, or not with keys.
    #[error(transparent)]
    Call(#[from] client::Error),
}

/// Keys by id, at most [`MAX_AGE`] old. One that is not known is asked for at once, but not more often than [`PAUSE`].
#[derive(Debug)]
pub struct Keys {
    client: Client,
    url: String,
    bearer: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    asked: Option<Instant>,
    fetched: Option<Instant>,
    keys: BTreeMap<String, Key>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(tag = "kty")]
enum Published {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Ec { crv: String, x: String, y: String },
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
}

impl Keys {
    /// Nothing is fetched yet.
    ///
    /// # Errors
    /// The URL is none, or the authority's file cannot be read.
    pub fn new(url: &str, authority: Option<&Path>, bearer: Option<PathBuf>) -> Result<Self, Error> {
        let parsed: Option<Uri> = url.parse().ok();
        let host = parsed.as_ref().and_then(Uri::host);
        let host = host.ok_or_else(|| Error::Url(url.to_owned()))?;
        let root =
            authority.map(|path| std::fs::read_to_string(path).map_err(|source| unreadable(path, source)));
        let root = root.transpose()?;
        Ok(Self {
            client: Client::of_service(TIMEOUT, host, root.as_deref()),
            url: url.to_owned(),
            bearer,
            kept: Mutex::default(),
        })
    }

    /// The key of that id; `None` when the issuer has none.
    ///
    /// # Errors
    /// The issuer does not answer and the key is not known from before.
    pub async fn find(&self, id: &str) -> Result<Option<Key>, Error> {
        let mut kept = self.kept.lock().await;
        let fresh = kept.fetched.is_some_and(|at| at.elapsed() < MAX_AGE);
        let known = kept.keys.get(id).cloned();
        if fresh && known.is_some()
            || kept.asked.is_some_and(|at| at.elapsed() < PAUSE) && kept.fetched.is_some()
        {
            return Ok(known);
        }
        kept.asked = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                kept.fetched = Some(Instant::now());
                kept.keys = keys;
                Ok(kept.keys.get(id).cloned())
            }
            // An issuer that is away for a while makes no worker a stranger.
            Err(error) if known.is_some() => {
                tracing::warn!(%error, "the keys of the token issuer are old");
                Ok(known)
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch(&self) -> Result<BTreeMap<String, Key>, Error> {
        let bearer = match &self.bearer {
            None => None,
            // Renewed by the kubelet: read each time.
            Some(path) => Some(
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| unreadable(path, source))?,
            ),
        };
        let bearer = bearer.as_deref().map(str::trim);
        let set: Set = self
            .client
            .json(Method::GET, &self.url, bearer, None::<&()>)
            .await?;
        Ok(set.keys.into_iter().filter_map(read).collect())
    }
}

/// Keys of other kinds and for other uses are none of ours.
fn read(published: serde_json::Value) -> Option<(String, Key)> {
    let about = About::deserialize(&published).ok()?;
    if about.usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let bytes = |text: String| URL_SAFE_NO_PAD.decode(text).ok();
    let key = match Published::deserialize(published).ok()? {
        Published::Rsa { n, e } => Key::Rsa {
            modulus: bytes(n)?,
            exponent: bytes(e)?,
        },
        Published::Ec { crv, x, y } if crv == "P-256" => {
            let (x, y) = (bytes(x)?, bytes(y)?);
            // 4: neither coordinate is left out.
            Key::P256([vec![4], x, y].concat())
        }
        Published::Ec { .. } => return None,
    };
    Some((about.kid, key))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        source,
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_AGE: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_secs(5);
