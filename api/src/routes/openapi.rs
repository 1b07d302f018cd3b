//! `GET /openapi.json`: this interface, described.

use axum::response::IntoResponse;
use http::{HeaderValue, header};

/// This document. Needs no key.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "service",
    operation_id = "openapi",
    responses((status = 200, body = Object, description = "An OpenAPI 3.1 document."))
)]
pub async fn show() -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], crate::openapi::text())
}
