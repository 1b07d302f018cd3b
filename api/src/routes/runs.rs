//! `/v1/runs`: show, list, cancel, keep a recording.

use assay_core::{
    digest::Digest,
    id::{EvaluationId, RunId, TenantId},
    wire::people::{Page, Recording, Run},
};
use axum::extract::State;

use crate::{
    app::{App, Shared},
    code::Code,
    evidence,
    extract::{Id, Json, Paging, Query, Reader, Submitter},
    objects,
    refusal::Refusal,
    routes::query,
    store::{self, runs::Filter},
};

/// Runs, in the order of submission.
#[utoipa::path(
    get,
    path = "/v1/runs",
    tag = "runs",
    operation_id = "list_runs",
    params(query::Runs),
    responses((status = 200, body = Page<Run>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Query(which): Query<query::Runs>,
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

/// One run.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}",
    tag = "runs",
    operation_id = "show_run",
    params(("id" = RunId, Path, description = "The run.")),
    responses((status = 200, body = Run)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<RunId>,
) -> Result<Json<Run>, Refusal> {
    find(&app, caller.tenant, id).await
}

/// Cancels a run. An intent, as for an evaluation.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/cancel",
    tag = "runs",
    operation_id = "cancel_run",
    params(("id" = RunId, Path, description = "The run.")),
    responses((status = 200, body = Run)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)))
)]
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

/// Keeps the recording of a run's last attempt under its digest, so that a policy can name it as `replay`. Done twice it is
/// the same one.
#[utoipa::path(
    post,
    path = "/v1/runs/{id}/recording",
    tag = "runs",
    operation_id = "keep_recording",
    params(("id" = RunId, Path, description = "The run.")),
    responses((status = 200, body = Recording)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)), ("x-codes" = json!([Code::RecordingMissing, Code::ObjectsUnavailable])))
)]
pub async fn keep_recording(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Id(id): Id<RunId>,
) -> Result<Json<Recording>, Refusal> {
    let Json(run) = find(&app, caller.tenant, id).await?;
    let missing = |detail: String| Refusal::new(Code::RecordingMissing, detail);
    let ended = run.finished_at.and(run.attempt);
    let attempt = ended.ok_or_else(|| missing(format!("run {id} has not ended")))?;
    let bytes = evidence::recording(&app, attempt).await?;
    if bytes.is_empty() {
        let detail = format!("run {id} recorded no model call; its policy must say record = \"models\"");
        return Err(missing(detail));
    }
    let (digest, size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
    let key = objects::recording(caller.tenant, digest);
    if app.objects.size(&key).await?.is_none() {
        app.objects.put(&key, bytes.into()).await?;
    }
    Ok(Json(Recording {
        digest,
        size_bytes,
        attempt,
    }))
}
