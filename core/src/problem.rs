//! The one error body of every HTTP answer (RFC 9457).

use serde::{Deserialize, Serialize};

/// An `application/problem+json` body. `code` is stable and meant for programs, `detail` for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URI reference for this kind of problem: `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status.
    pub status: u16,
    /// Short and the same for every problem of this code.
    pub title: String,
    /// What happened this time and what to do about it.
    pub detail: String,
    /// The stable machine code, `snake_case`.
    pub code: String,
    /// The request's id, to be quoted to an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem of `code`, whose words make the title.
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{code}"),
            status,
            title: code.replace('_', " "),
            detail: detail.into(),
            code: code.to_owned(),
            request_id: None,
        }
    }
}
