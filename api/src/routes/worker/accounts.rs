//! `GET /v1/attempts/{id}/accounts`: what the streamed logs say of a sandbox that cannot be asked any more.

use assay_core::{id::AttemptId, wire::worker::Accounts};
use axum::extract::State;

use crate::{
    app::Shared,
    code::Code,
    evidence,
    extract::{Id, Json, Query, WorkerKey},
    refusal::Refusal,
    routes::query,
    store,
};

/// What the stored write-ahead logs of an attempt's proxies say. For the holder of the lease.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}/accounts",
    tag = "workers",
    operation_id = "read_accounts",
    params(("id" = AttemptId, Path, description = "The attempt."), query::Holder),
    responses((status = 200, body = Accounts)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::StaleFence, Code::ObjectsUnavailable])))
)]
pub async fn read(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(id): Id<AttemptId>,
    Query(holder): Query<query::Holder>,
) -> Result<Json<Accounts>, Refusal> {
    if !store::attempts::is_open(&app.pool, id, holder.fence).await? {
        return Err(Refusal::stale_fence());
    }
    evidence::accounts(&app, id).await.map(Json)
}
