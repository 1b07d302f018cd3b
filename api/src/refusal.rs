//! The one place where failures become HTTP answers: RFC 9457 bodies with stable codes, internal text kept inside.

use assay_core::problem::Problem;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::{code::Code, objects, seal, store};

/// A refused or failed request.
#[derive(Debug)]
pub struct Refusal(pub Box<Problem>);

impl Refusal {
    /// A problem of this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(
            code.status().as_u16(),
            code.name(),
            detail,
        )))
    }

    /// 400 `invalid_request`.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// 404. Says the same for what does not exist and for what belongs to somebody else.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// 409 `stale_fence`.
    pub fn stale_fence() -> Self {
        Self::new(Code::StaleFence, "the lease is lost: stop and clean up")
    }

    /// 500 `internal`.
    pub fn internal() -> Self {
        let detail = "something went wrong on our side; quote the request id to an operator";
        Self::new(Code::Internal, detail)
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        if error.is_transient() {
            tracing::warn!(error = %error, "the database does not answer");
            return Self::new(
                Code::DatabaseUnavailable,
                "the database does not answer; try again",
            );
        }
        tracing::error!(error = %error, "a statement failed");
        Self::internal()
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        store::Error::from(error).into()
    }
}

impl From<objects::Error> for Refusal {
    fn from(error: objects::Error) -> Self {
        tracing::warn!(error = %error, "the object store failed");
        Self::new(
            Code::ObjectsUnavailable,
            "the object store does not answer; try again",
        )
    }
}

impl From<seal::Error> for Refusal {
    fn from(error: seal::Error) -> Self {
        tracing::error!(error = %error, "sealing failed");
        Self::internal()
    }
}

impl From<getrandom::Error> for Refusal {
    fn from(error: getrandom::Error) -> Self {
        tracing::error!(error = %error, "no random bytes");
        Self::internal()
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(error = %error, "a local file failed");
        Self::internal()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(*self.0);
        response
    }
}
