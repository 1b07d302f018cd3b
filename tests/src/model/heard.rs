//! What the service was asked last, word for word: what a proxy left of a request is judged here.

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use serde_json::Value;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Value,
}

impl Heard {
    /// A header's text; `None` where it was not sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Keeps the last request.
#[derive(Debug, Default)]
pub struct Ear(Mutex<Option<Heard>>);

impl Ear {
    /// Keeps this one; what is no JSON is kept as nothing said.
    pub fn hear(&self, headers: HeaderMap, body: &[u8]) {
        let body = serde_json::from_slice(body).unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Heard { headers, body });
    }

    /// The last request so far.
    pub fn last(&self) -> Option<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
