//! `/v1/runs`: show, list, cancel.

use assay_core::{
    id::{EvaluationId, RunId, TenantId},
    wire::people::{Page, Run},
};
use axum::extract::State;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{App, Shared},
    extract::{Id, Json, Paging, Query, Reader, Submitter},
    refusal::Refusal,
    store::{self, runs::Filter},
};

/// Which runs.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Which {
    /// Those of this evaluation.
    #[serde(default)]
    evaluation: Option<Uuid>,
    /// `next` of the page before.
    #[serde(default)]
    cursor: Option<Uuid>,
    /// Rows per page, 1 to 500.
    #[serde(default)]
    limit: Option<u16>,
}

/// `GET /v1/runs?evaluation=`: in the order of submission.
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Query(which): Query<Which>,
) -> Result<Json<Page<Run>>, Refusal> {
    let paging = Paging {
        cursor: which.cursor,
        limit: which.limit,
    };
    let filter = Filter {
        id: None,
        evaluation: which.evaluation.map(EvaluationId),
        cursor: which.cursor,
    };
    let rows = store::runs::page(&app.pool, caller.tenant, filter, paging.probe()).await?;
    Ok(Json(paging.page(rows, |run| run.id.0)))
}

async fn find(app: &App, tenant: TenantId, id: RunId) -> Result<Json<Run>, Refusal> {
    let run = store::runs::find(&app.pool, tenant, id).await?;
    run.map(Json).ok_or_else(|| Refusal::not_found("run"))
}

/// `GET /v1/runs/{id}`.
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<RunId>,
) -> Result<Json<Run>, Refusal> {
    find(&app, caller.tenant, id).await
}

/// `POST /v1/runs/{id}/cancel`: an intent, as for an evaluation.
pub async fn cancel(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Id(id): Id<RunId>,
) -> Result<Json<Run>, Refusal> {
    let mut tx = store::begin(&app.pool).await?;
    store::queue::cancel::cancel(&mut tx, caller.tenant, None, Some(id)).await?;
    store::audit::append(&mut tx, caller.actor(), "run.cancel", &id.to_string()).await?;
    find(&app, caller.tenant, id).await?;
    tx.commit().await?;
    find(&app, caller.tenant, id).await
}
