//! A cluster's issuer of tokens: keys of its own, published over HTTP.

use std::sync::{Arc, Mutex};

use assay_api::WorkerTokens;
use assay_core::clock::{Clock as _, SystemClock};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

/// Who says that it is this issuer.
pub const ISSUER: &str = "https://cluster.test";

/// A key pair with a name.
pub enum Signer {
    Rsa(&'static str, Box<RsaKeyPair>),
    P256(&'static str, Box<EcdsaKeyPair>),
}

impl Signer {
    pub fn rsa(id: &'static str) -> Self {
        Self::Rsa(id, Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub fn p256(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::P256(id, Box::new(pair))
    }

    fn published(&self) -> Value {
        match self {
            Self::Rsa(id, pair) => {
                // PKCS #1 with 2048 bits: two headers, a zero, the modulus, a header, the exponent.
                let der = pair.public_key().as_ref();
                assert_eq!(der.len(), 270);
                let (n, e) = (&der[9..265], &der[267..]);
                json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": base64(n), "e": base64(e)})
            }
            Self::P256(id, pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"use": "sig", "kty": "EC", "crv": "P-256", "kid": id, "x": base64(x), "y": base64(y)})
            }
        }
    }

    /// A token with this header, or the usual one, and these claims.
    pub fn sign(&self, header: Option<Value>, claims: &Value) -> String {
        let (id, algorithm) = match self {
            Self::Rsa(id, _) => (id, "RS256"),
            Self::P256(id, _) => (id, "ES256"),
        };
        let header = header.unwrap_or_else(|| json!({"alg": algorithm, "kid": id}));
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let signature = match self {
            Self::Rsa(_, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                    .unwrap();
                signature
            }
            Self::P256(_, pair) => pair.sign(&random, bytes).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", base64(signature))
    }
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What the API server puts into the token of a pod.
pub fn claims(account: &str, pod: &str) -> Value {
    let now = SystemClock.now().as_second();
    json!({
        "iss": ISSUER, "aud": ["assay"], "iat": now, "nbf": now, "exp": now + 3600,
        "sub": format!("system:serviceaccount:assay-system:{account}"),
        "kubernetes.io": {
            "namespace": "assay-system",
            "pod": {"name": pod, "uid": "1"},
            "serviceaccount": {"name": account, "uid": "2"},
        },
    })
}

/// Publishes keys at a URL; what is published can change.
pub struct Issuer {
    pub url: String,
    published: Arc<Mutex<Vec<Value>>>,
}

impl Issuer {
    /// Answers those who show this bearer token.
    pub async fn start(bearer: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/openid/v1/jwks", listener.local_addr().unwrap());
        let published: Arc<Mutex<Vec<Value>>> = Arc::default();
        let shared = Arc::clone(&published);
        let answer = move |headers: HeaderMap| async move {
            let shown = headers.get(header::AUTHORIZATION);
            if shown.is_none_or(|shown| *shown != format!("Bearer {bearer}")) {
                return Err(StatusCode::UNAUTHORIZED);
            }
            Ok(axum::Json(json!({"keys": *shared.lock().unwrap()})))
        };
        let router = axum::Router::new().route("/openid/v1/jwks", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, published }
    }

    pub fn publish(&self, signers: &[&Signer]) {
        *self.published.lock().unwrap() = signers.iter().map(|signer| signer.published()).collect();
    }

    /// Settings that trust it.
    pub fn trusted(&self, bearer: std::path::PathBuf) -> WorkerTokens {
        WorkerTokens {
            worker_token_issuer: Some(ISSUER.to_owned()),
            worker_token_audience: "assay".to_owned(),
            worker_token_keys: Some(self.url.clone()),
            worker_token_keys_ca: None,
            worker_token_keys_bearer: Some(bearer),
            worker_identities: vec![
                "assay-system/screener/screener-1=1".parse().unwrap(),
                "assay-system/screener/screener-2=2".parse().unwrap(),
            ],
        }
    }
}
