//! `GET /v1/attempts/{id}/task`: where the task's archive is now.

use assay_core::{id::AttemptId, wire::worker::TaskUrl};
use axum::extract::State;

use crate::{
    app::Shared,
    code::Code,
    extract::{Id, Json, Query, WorkerKey},
    objects,
    refusal::Refusal,
    routes::query,
    store,
};

/// A presigned GET of the task's archive, signed now: an image may be built long after the claim. For the holder of the lease.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}/task",
    tag = "workers",
    operation_id = "read_task_url",
    params(("id" = AttemptId, Path, description = "The attempt."), query::Holder),
    responses((status = 200, body = TaskUrl)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::StaleFence, Code::ObjectsUnavailable])))
)]
pub async fn read(
    State(app): State<Shared>,
    WorkerKey(worker): WorkerKey,
    Id(id): Id<AttemptId>,
    Query(holder): Query<query::Holder>,
) -> Result<Json<TaskUrl>, Refusal> {
    let task = store::attempts::task(&app.pool, id, holder.fence).await?;
    let (tenant, digest) = task.ok_or_else(Refusal::stale_fence)?;
    let key = objects::archive(tenant, digest);
    let url = app.objects.presign_get(&key, worker.side).await?;
    Ok(Json(TaskUrl { url }))
}
