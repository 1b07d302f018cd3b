//! `GET /v1/limits`: the operator's defaults and maxima.

use assay_core::limits::LimitSettings;
use axum::extract::State;

use crate::{
    app::Shared,
    extract::{Json, Reader},
};

/// What holds where a task says nothing, and what no task can exceed.
#[utoipa::path(
    get,
    path = "/v1/limits",
    tag = "service",
    operation_id = "limits",
    responses((status = 200, body = LimitSettings)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(State(app): State<Shared>, Reader(_caller): Reader) -> Json<LimitSettings> {
    Json(app.catalogue.limits.clone())
}
