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

/// Renews every lease in one statement.
pub async fn beat(
    State(app): State<Shared>,
    WorkerKey(_): WorkerKey,
    Id(id): Id<WorkerId>,
    Json(beat): Json<Beat>,
) -> Result<Json<Beaten>, Refusal> {
    let beaten = store::queue::lease::beat(&app.pool, id, &beat.leases, app.config.lease_ms).await?;
    store::workers::seen(&app.pool, id, beat.claiming).await?;
    Ok(Json(beaten))
}

/// Gives leases back, to be adopted at once; no attempt is used up.
pub async fn hand_off(
    State(app): State<Shared>,
    WorkerKey(_): WorkerKey,
    Id(id): Id<WorkerId>,
    Json(handoff): Json<Handoff>,
) -> Result<StatusCode, Refusal> {
    store::queue::lease::hand_off(&app.pool, id, &handoff.leases).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which of these sandboxes may be deleted.
pub async fn orphans(
    State(app): State<Shared>,
    WorkerKey(_): WorkerKey,
    Id(_): Id<WorkerId>,
    Json(orphans): Json<Orphans>,
) -> Result<Json<OrphanVerdicts>, Refusal> {
    crate::jobs::close_lost(&app).await?;
    let delete = store::queue::lease::deletable(&app.pool, &orphans.attempts).await?;
    Ok(Json(OrphanVerdicts { delete }))
}
