//! A try that came to nothing: what the workload is told of it, whether it may be billed, and whose fault it is.
//!
//! A service's fault makes a run void. So nothing that a workload can bring about by what it sends counts as one.

use std::{error::Error, time::Duration};

use assay_core::{ledger::Fault, upstream::Dialect};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use super::{
    answer::{self, Answer},
    refusal::Refusal,
    retry, upstream,
};

/// A try that came to nothing.
pub struct Failure {
    /// What the workload is told if it was the last one.
    pub answer: Answer,
    /// The body of that.
    pub text: Bytes,
    /// The code in the audit.
    pub reason: &'static str,
    /// The service may have worked.
    pub billable: bool,
    /// The name by which the service tells afterwards what it bills.
    pub generation: Option<String>,
    /// Who is to blame.
    pub fault: Fault,
    /// Another try may go better.
    pub passing: bool,
    /// The wait that the service asks for.
    pub told: Option<Duration>,
}

impl Failure {
    /// The service said that it failed. Its own words go on, where they may: `body` is `None` where not.
    pub fn told(
        (status, headers): (StatusCode, HeaderMap),
        body: Option<Bytes>,
        generation: Option<String>,
        dialect: Dialect,
    ) -> Self {
        let told = retry::told(&headers);
        let fault = fault(status, dialect, body.as_deref().unwrap_or_default());
        let is_error = status.is_client_error() || status.is_server_error();
        let (answer, text) = match body {
            Some(body) if is_error => {
                let mut answer = Response::new(answer::full(body.clone()));
                *answer.status_mut() = status;
                *answer.headers_mut() = headers;
                (answer, body)
            }
            _ => {
                let refusal =
                    Refusal::provider("upstream_error", "The model service answered with an error.");
                let status = if is_error { status } else { refusal.status };
                (refusal.clone().with_status(status).answer(), refusal.body())
            }
        };
        Self {
            answer,
            text,
            reason: "upstream_error",
            billable: may_be_billed(status, generation.is_some()),
            generation,
            fault,
            passing: retry::may_pass(status),
            told,
        }
    }

    /// The service broke the connection after it may have begun to work on a request of so many bytes.
    pub fn broken(request: u64, error: &hyper::Error) -> Self {
        tracing::debug!(
            error = error as &dyn Error,
            "a model service broke the connection"
        );
        let refusal = Refusal::provider("upstream_broken", "The model service broke the connection.");
        Self {
            // It may have found the request too large.
            fault: if request > LARGE {
                Fault::Nobody
            } else {
                Fault::Provider
            },
            ..Self::of(&refusal)
        }
    }

    /// The service did not answer.
    pub fn silent() -> Self {
        let refusal = Refusal::provider("upstream_timeout", "The model service did not answer in time.")
            .with_status(StatusCode::GATEWAY_TIMEOUT);
        Self {
            passing: false,
            ..Self::of(&refusal)
        }
    }

    /// The service has seen nothing of the request.
    pub fn unreachable(error: &upstream::Error) -> Self {
        tracing::warn!(error = error as &dyn Error, "a model service cannot be reached");
        let refusal = Refusal::provider("upstream_unreachable", "The model service cannot be reached.");
        Self {
            billable: false,
            ..Self::of(&refusal)
        }
    }

    fn of(refusal: &Refusal) -> Self {
        Self {
            answer: refusal.answer(),
            text: refusal.body(),
            reason: refusal.code,
            billable: true,
            generation: None,
            fault: Fault::Provider,
            passing: true,
            told: None,
        }
    }
}

/// Is an error in the middle of an answer about the request, and not about the service?
pub fn is_about_the_request(error: &str) -> bool {
    let Ok(error) = serde_json::from_str::<Coded>(error) else {
        return false;
    };
    match (error.code, error.kind) {
        (Some(Code::Number(status)), _) => matches!(status, 400 | 403 | 404 | 413 | 415 | 422 | 451),
        (Some(Code::Word(word)), _) | (None, Some(word)) => {
            word.starts_with("invalid_") || word.starts_with("content_") || word.contains("image")
        }
        (None, None) => false,
    }
}

/// 401, 402 and 429 are about our key. 403 is about the request, e.g. an input that the provider flags, and only where
/// the service can mean nothing but the key about that.
fn fault(status: StatusCode, dialect: Dialect, body: &[u8]) -> Fault {
    let is_services = match status.as_u16() {
        401 | 402 | 429 => true,
        403 => is_about_the_key(dialect, body),
        // A good answer in a form that nobody asked for.
        _ => status.is_server_error() || status.is_success(),
    };
    if is_services {
        Fault::Provider
    } else {
        Fault::Nobody
    }
}

/// The router's word on a flagged input, its own or a provider's, has details; that on a spent key has none. Anthropic
/// flags no input by 403.
fn is_about_the_key(dialect: Dialect, body: &[u8]) -> bool {
    match dialect {
        Dialect::Anthropic => true,
        Dialect::OpenAi => false,
        Dialect::OpenRouter => serde_json::from_slice::<Told>(body)
            .is_ok_and(|told| told.error.metadata.is_none() && told.error.message.contains("limit")),
    }
}

/// After an error of the service itself an answer may have been made and billed, unless the service says that it took
/// none: it is overloaded, and gives the answer no name.
fn may_be_billed(status: StatusCode, is_named: bool) -> bool {
    match status.as_u16() {
        200..=299 | 408 => true,
        503 | 529 => is_named,
        _ => status.is_server_error(),
    }
}

#[derive(Deserialize)]
struct Told {
    error: Details,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    message: String,
    #[serde(default)]
    metadata: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Coded {
    #[serde(default)]
    code: Option<Code>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Number(u16),
    Word(String),
}

/// Services take less than we do; one that hangs up on a request beyond this may mean its size.
const LARGE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    #[test]
    fn an_error_of_the_service_may_be_billed_unless_it_took_nothing() {
        for code in [200, 202, 408, 500, 502, 504, 520, 524, 599] {
            assert!(may_be_billed(status(code), false), "{code}");
        }
        for code in [301, 400, 401, 402, 403, 404, 413, 429] {
            assert!(!may_be_billed(status(code), true), "{code}");
        }
        for code in [503, 529] {
            assert!(!may_be_billed(status(code), false) && may_be_billed(status(code), true));
        }
    }

    #[test]
    fn what_a_workload_can_bring_about_is_not_the_services_fault() {
        let flagged = br#"{"error":{"code":403,"message":"flagged","metadata":{"reasons":["violence"]}}}"#;
        let spent = br#"{"error":{"code":403,"message":"Key limit exceeded"}}"#;
        let of = |code, dialect, body: &[u8]| fault(status(code), dialect, body);
        for dialect in [Dialect::OpenRouter, Dialect::OpenAi] {
            assert_eq!(of(403, dialect, flagged), Fault::Nobody);
            assert_eq!(of(403, dialect, b""), Fault::Nobody);
        }
        assert_eq!(of(403, Dialect::OpenRouter, spent), Fault::Provider);
        assert_eq!(of(403, Dialect::Anthropic, b""), Fault::Provider);
        for code in [400, 404, 413, 422] {
            assert_eq!(of(code, Dialect::OpenRouter, b""), Fault::Nobody);
        }
        for code in [200, 401, 402, 429, 500, 502, 503, 529] {
            assert_eq!(of(code, Dialect::OpenRouter, b""), Fault::Provider);
        }
    }

    #[test]
    fn an_error_in_the_middle_says_by_its_code_what_it_is_about() {
        for error in [
            r#"{"code":403}"#,
            r#"{"code":400}"#,
            r#"{"code":"invalid_prompt"}"#,
            r#"{"code":"content_filter"}"#,
            r#"{"type":"invalid_request_error"}"#,
            r#"{"code":"unsupported_image_media_type"}"#,
        ] {
            assert!(is_about_the_request(error), "{error}");
        }
        for error in [
            r#"{"code":502}"#,
            r#"{"code":429}"#,
            r#"{"code":"server_error"}"#,
            r#"{"code":"rate_limit_exceeded"}"#,
            r#"{"type":"overloaded_error"}"#,
            r#"{"code":null}"#,
            "true",
        ] {
            assert!(!is_about_the_request(error), "{error}");
        }
    }
}
