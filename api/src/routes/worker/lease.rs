//! `POST /v1/workers/{id}/beat|handoff|orphans`: leases kept, given back, and sandboxes without a driver.

use assay_core::{
    id::WorkerId,
    wire::worker::{Beat, Beaten, Handoff, OrphanVerdicts, Orphans},
};
use axum::extract::State;
use http::StatusCode;

use crate::{
    app::Shared,
    extract::{Id, Json, WorkerKey},
    refusal::Refusal,
    store,
};

/// Renews every lease of a worker in one statement.
#[utoipa::path(
    post,
    path = "/v1/workers/{id}/beat",
    tag = "workers",
    operation_id = "beat",
    params(("id" = WorkerId, Path, description = "The worker.")),
    request_body = Beat,
    responses((status = 200, body = Beaten)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)))
)]
pub async fn beat(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(id): Id<WorkerId>,
    Json(beat): Json<Beat>,
) -> Result<Json<Beaten>, Refusal> {
    let beaten = store::queue::lease::beat(&app.pool, id, &beat.leases, app.config.lease_ms).await?;
    store::workers::seen(&app.pool, id, beat.claiming).await?;
    Ok(Json(beaten))
}

/// Gives leases back, to be adopted at once; no attempt is used up.
#[utoipa::path(
    post,
    path = "/v1/workers/{id}/handoff",
    tag = "workers",
    operation_id = "hand_off",
    params(("id" = WorkerId, Path, description = "The worker.")),
    request_body = Handoff,
    responses((status = 204, description = "Done.")),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)))
)]
pub async fn hand_off(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(id): Id<WorkerId>,
    Json(handoff): Json<Handoff>,
) -> Result<StatusCode, Refusal> {
    store::queue::lease::hand_off(&app.pool, id, &handoff.leases).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which of these sandboxes may be deleted.
#[utoipa::path(
    post,
    path = "/v1/workers/{id}/orphans",
    tag = "workers",
    operation_id = "orphans",
    params(("id" = WorkerId, Path, description = "The worker.")),
    request_body = Orphans,
    responses((status = 200, body = OrphanVerdicts)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)))
)]
pub async fn orphans(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(_worker_id): Id<WorkerId>,
    Json(orphans): Json<Orphans>,
) -> Result<Json<OrphanVerdicts>, Refusal> {
    crate::jobs::close_lost(&app).await?;
    let delete = store::queue::lease::deletable(&app.pool, &orphans.attempts).await?;
    Ok(Json(OrphanVerdicts { delete }))
}
