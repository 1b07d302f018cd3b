//! Tokens of service accounts: signed JSON Web Tokens (RFC 7515, 7519), as a cluster makes them for one pod.
//!
//! The key decides the algorithm, never the token: RSA keys check RS256, P-256 keys check ES256, and nothing else is read.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};

/// What a token must say.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its `iss`.
    pub issuer: String,
    /// One of its `aud`.
    pub audience: String,
}

/// The pod that a token was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its name.
    pub name: String,
}

/// What is wrong with a token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It is not three parts of base64url with JSON in them.
    #[error("it is no JSON Web Token: {0}")]
    Malformed(&'static str),
    /// Signed in a way that is not read here.
    #[error("its algorithm {0:?} is not taken; RS256 and ES256 are")]
    Algorithm(String),
    /// The issuer has no such key.
    #[error("its key {0:?} is not one of the issuer's")]
    UnknownKey(String),
    /// Signed by somebody else, or changed.
    #[error("its signature does not fit")]
    Signature,
    /// From another issuer.
    #[error("its issuer is {0:?}")]
    Issuer(String),
    /// Made for somebody else.
    #[error("it was made for another audience")]
    Audience,
    /// Too old.
    #[error("it has expired")]
    Expired,
    /// Not valid yet.
    #[error("it is not valid yet; are the clocks right?")]
    TooEarly,
    /// Made for no pod.
    #[error("it was made for no pod; want a projected token")]
    NoPod,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Modulus and exponent.
    Rsa {
        /// Big-endian.
        modulus: Vec<u8>,
        /// Big-endian.
        exponent: Vec<u8>,
    },
    /// An uncompressed point on P-256.
    P256(Vec<u8>),
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok(),
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// A token that was read but not believed.
#[derive(Debug)]
pub struct Token<'t> {
    /// Which of the issuer's keys it names.
    pub key: String,
    algorithm: String,
    message: &'t [u8],
    claims: &'t str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audiences,
    exp: i64,
    nbf: Option<i64>,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    cluster: Option<Bound>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    pod: Option<Named>,
    serviceaccount: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// It is none, or asks for what is not read here.
    pub fn read(text: &'t str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::Malformed("it is too long"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Error::Malformed("no signature"))?;
        let (header, claims) = message.split_once('.').ok_or(Error::Malformed("no claims"))?;
        let header: Header = json(header, "its header")?;
        if header.crit.is_some() {
            return Err(Error::Malformed("it has critical extensions"));
        }
        Ok(Self {
            key: header.kid,
            algorithm: header.alg,
            message: message.as_bytes(),
            claims,
            signature: decode(signature, "its signature")?,
        })
    }

    /// Believes it, or says why not: signature first, then issuer, audience, time and pod.
    ///
    /// # Errors
    /// Any of these is wrong.
    pub fn check(&self, key: &Key, expected: &Expected, now: Timestamp) -> Result<Pod, Error> {
        if self.algorithm != key.algorithm() {
            return Err(Error::Algorithm(self.algorithm.clone()));
        }
        if !key.signed(self.message, &self.signature) {
            return Err(Error::Signature);
        }
        let claims: Claims = json(self.claims, "its claims")?;
        if claims.iss != expected.issuer {
            return Err(Error::Issuer(claims.iss));
        }
        let meant = match &claims.aud {
            Audiences::One(one) => *one == expected.audience,
            Audiences::Many(many) => many.contains(&expected.audience),
        };
        if !meant {
            return Err(Error::Audience);
        }
        let now = now.as_second();
        if claims.exp <= now.saturating_sub(LEEWAY_SEC) {
            return Err(Error::Expired);
        }
        if claims
            .nbf
            .is_some_and(|from| from > now.saturating_add(LEEWAY_SEC))
        {
            return Err(Error::TooEarly);
        }
        pod(claims)
    }
}

fn pod(claims: Claims) -> Result<Pod, Error> {
    let bound = claims.cluster.ok_or(Error::NoPod)?;
    let name = bound.pod.ok_or(Error::NoPod)?.name;
    let subject = format!(
        "system:serviceaccount:{}:{}",
        bound.namespace, bound.serviceaccount.name
    );
    if claims.sub != subject {
        return Err(Error::Malformed("its subject is not its account"));
    }
    Ok(Pod {
        namespace: bound.namespace,
        account: bound.serviceaccount.name,
        name,
    })
}

fn json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(&decode(text, what)?).map_err(|_| Error::Malformed(what))
}

fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Malformed(what))
}

/// Clocks of one cluster differ by seconds.
const LEEWAY_SEC: i64 = 30;

/// A projected token has about 1 KiB.
const MAX_BYTES: usize = 16 << 10;
