//! What a workload is told when a request is refused: a stable code, a sentence, and that trying again is of no use.
//!
//! The status is 403, never 429 or 5xx: software libraries repeat those.

use assay_core::ledger::{Refused, shared};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{
    answer::{self, Answer},
    shape::{Fault, Misfit},
};
use crate::{account::Denied, audit::Unwritable};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code, the same in the audit.
    pub code: &'static str,
    /// One sentence for the author of the agent.
    pub message: String,
    /// May the same request succeed later?
    pub retryable: bool,
}

impl Refusal {
    /// By policy: 403.
    pub fn policy(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            code,
            message: message.into(),
            retryable: false,
        }
    }

    /// The model service is at fault: 502, and the workload may try again.
    pub fn provider(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            code,
            message: message.into(),
            retryable: true,
        }
    }

    /// Without its line in the audit nothing is forwarded.
    pub fn unwritable() -> Self {
        let message = format!("The audit of this run cannot be written, so nothing is forwarded. {OURS}");
        Self::policy(Unwritable::CODE, message)
    }

    /// Is this the code of a refusal for want of a record, ours to answer for?
    pub fn is_unrecorded(code: &str) -> bool {
        [LOG_BROKEN, Unwritable::CODE].contains(&code)
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The HTTP answer.
    pub fn answer(&self) -> Answer {
        let mut response = Response::new(answer::full(self.body()));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// The body of that.
    pub fn body(&self) -> Bytes {
        let kind = if self.retryable {
            "provider_error"
        } else {
            "policy_refusal"
        };
        let body = Body {
            kind: "error",
            error: Told {
                kind,
                code: self.code,
                message: &self.message,
                retryable: self.retryable,
            },
        };
        serde_json::to_vec(&body).unwrap_or_default().into()
    }
}

impl From<Misfit> for Refusal {
    fn from(misfit: Misfit) -> Self {
        let path = &misfit.path;
        match misfit.fault {
            Fault::Unknown => Self::policy(
                "field_not_allowed",
                format!("The field `{path}` is not allowed here. Leave it out; trying again is of no use."),
            ),
            Fault::Missing => Self::policy("field_missing", format!("The field `{path}` is missing.")),
            Fault::Wrong(want) => Self::policy(
                "field_invalid",
                format!("The field `{path}` has a value that is not allowed (want {want})."),
            ),
            Fault::FetchedUrl => Self::policy(
                "url_not_allowed",
                format!("`{path}` must be an image as a data: URL; nothing is fetched from elsewhere."),
            ),
            Fault::NotListed if path.starts_with("tools[") => Self::policy(
                "tool_not_allowed",
                format!("`{path}`: only tools that the caller itself runs are allowed."),
            ),
            Fault::NotListed => Self::policy(
                "field_invalid",
                format!("The value of `{path}` is not one of those allowed."),
            ),
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Rate => "rate_exhausted",
            Denied::Book(shared::Denied::LogBroken) => LOG_BROKEN,
            Denied::Book(shared::Denied::Refused(refused)) => match refused {
                Refused::NoPurse => "no_models",
                Refused::Frozen => "ledger_frozen",
                Refused::Requests => "requests_exhausted",
                Refused::Parallel => "too_many_parallel",
                Refused::Tokens => "tokens_exhausted",
                Refused::Budget => "budget_exhausted",
                Refused::Held => "budget_held",
            },
        };
        let whose = if Self::is_unrecorded(code) {
            OURS
        } else {
            "This is a limit of the run, not a fault of the network."
        };
        Self::policy(code, format!("{}. {whose}", capital(&denied.to_string())))
    }
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

const LOG_BROKEN: &str = "ledger_unavailable";
const OURS: &str = "This is a fault of the platform, not of the run.";

#[derive(Serialize)]
struct Body<'a> {
    /// Anthropic's software looks for it.
    #[serde(rename = "type")]
    kind: &'static str,
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'a str,
    message: &'a str,
    retryable: bool,
}
