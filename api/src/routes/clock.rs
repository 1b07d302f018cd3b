//! `GET /v1/clock`: what time it is here.

use assay_core::wire::people::Clock;
use axum::extract::State;

use crate::{
    app::Shared,
    extract::{Json, Reader},
    refusal::Refusal,
    store,
};

/// The time of the database, by which leases, retries and deadlines go. For comparing other clocks with it.
#[utoipa::path(
    get,
    path = "/v1/clock",
    tag = "service",
    operation_id = "clock",
    responses((status = 200, body = Clock)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(State(app): State<Shared>, Reader(_caller): Reader) -> Result<Json<Clock>, Refusal> {
    let database = store::time(&app.pool).await?;
    Ok(Json(Clock { database }))
}
