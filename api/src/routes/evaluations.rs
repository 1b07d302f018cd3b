//! `/v1/evaluations`: show, list, cancel.

pub mod submit;

use assay_core::{
    id::{EvaluationId, TenantId},
    wire::people::{Evaluation, Page},
};
use axum::extract::State;

use crate::{
    app::{App, Shared},
    extract::{Id, Json, Paging, Query, Reader, Submitter},
    refusal::Refusal,
    store,
};

async fn find(app: &App, tenant: TenantId, id: EvaluationId) -> Result<Json<Evaluation>, Refusal> {
    let evaluation = store::evaluations::find(&app.pool, tenant, id).await?;
    evaluation
        .map(Json)
        .ok_or_else(|| Refusal::not_found("evaluation"))
}

/// Evaluations, newest first.
#[utoipa::path(
    get,
    path = "/v1/evaluations",
    tag = "evaluations",
    operation_id = "list_evaluations",
    params(Paging),
    responses((status = 200, body = Page<Evaluation>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Evaluation>>, Refusal> {
    let rows =
        store::evaluations::page(&app.pool, caller.tenant, None, paging.cursor, paging.probe()).await?;
    Ok(Json(paging.page(rows, |evaluation| evaluation.id.0)))
}

/// One evaluation.
#[utoipa::path(
    get,
    path = "/v1/evaluations/{id}",
    tag = "evaluations",
    operation_id = "show_evaluation",
    params(("id" = EvaluationId, Path, description = "The evaluation.")),
    responses((status = 200, body = Evaluation)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<EvaluationId>,
) -> Result<Json<Evaluation>, Refusal> {
    find(&app, caller.tenant, id).await
}

/// Cancels an evaluation. An intent: queued runs end at once, held ones within a heartbeat.
#[utoipa::path(
    post,
    path = "/v1/evaluations/{id}/cancel",
    tag = "evaluations",
    operation_id = "cancel_evaluation",
    params(("id" = EvaluationId, Path, description = "The evaluation.")),
    responses((status = 200, body = Evaluation)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)))
)]
pub async fn cancel(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Id(id): Id<EvaluationId>,
) -> Result<Json<Evaluation>, Refusal> {
    let mut tx = store::begin(&app.pool).await?;
    store::queue::cancel::cancel(&mut tx, caller.tenant, Some(id), None).await?;
    if !store::evaluations::set_cancelled(&mut tx, caller.tenant, id).await? {
        return Err(Refusal::not_found("evaluation"));
    }
    store::audit::append(&mut tx, caller.actor(), "evaluation.cancel", &id.to_string()).await?;
    tx.commit().await?;
    find(&app, caller.tenant, id).await
}
