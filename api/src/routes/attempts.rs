//! Attempts as people see them: rows, events, artifacts.

use std::time::Duration;

use assay_core::{
    id::{AttemptId, RunId, TenantId},
    wire::people::{Artifact, Attempt, Event, Page},
};
use axum::extract::State;

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{Id, Json, Query, Reader},
    objects::Side,
    refusal::Refusal,
    routes::query,
    store,
};

/// The attempts of a run, the first one first.
#[utoipa::path(
    get,
    path = "/v1/runs/{id}/attempts",
    tag = "attempts",
    operation_id = "list_attempts",
    params(("id" = RunId, Path, description = "The run.")),
    responses((status = 200, body = Page<Attempt>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn of_run(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<RunId>,
) -> Result<Json<Page<Attempt>>, Refusal> {
    let run = store::runs::find(&app.pool, caller.tenant, id).await?;
    run.ok_or_else(|| Refusal::not_found("run"))?;
    let items = store::attempts::of_run(&app.pool, caller.tenant, id).await?;
    Ok(Json(Page { items, next: None }))
}

/// The attempt of that id, if the caller owns it.
pub async fn find(app: &App, tenant: TenantId, id: AttemptId) -> Result<Attempt, Refusal> {
    let attempt = store::attempts::find(&app.pool, tenant, id).await?;
    attempt.ok_or_else(|| Refusal::not_found("attempt"))
}

/// One attempt.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}",
    tag = "attempts",
    operation_id = "show_attempt",
    params(("id" = AttemptId, Path, description = "The attempt.")),
    responses((status = 200, body = Attempt)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
) -> Result<Json<Attempt>, Refusal> {
    find(&app, caller.tenant, id).await.map(Json)
}

/// Published events of an attempt, in order. `next` is absent when nothing follows yet.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}/events",
    tag = "attempts",
    operation_id = "list_events",
    params(("id" = AttemptId, Path, description = "The attempt."), query::Events),
    responses((status = 200, body = Page<Event>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn events(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
    Query(which): Query<query::Events>,
) -> Result<Json<Page<Event>>, Refusal> {
    let size = usize::from(which.limit.unwrap_or(500).clamp(1, 500));
    let after = which.cursor.unwrap_or(which.after);
    let probe = i64::try_from(size).unwrap_or(500) + 1;
    let mut reader = app.wake.reader(id, Duration::from_millis(which.wait_ms));
    let mut items = loop {
        let attempt = find(&app, caller.tenant, id).await?;
        let items = store::events::page(&app.pool, caller.tenant, id, after, probe).await?;
        if !items.is_empty() || attempt.finished_at.is_some() || !reader.again().await {
            break items;
        }
    };
    let more = items.len() > size;
    items.truncate(size);
    let next = items
        .last()
        .filter(|_| more)
        .map(|event| event.cursor.to_string());
    Ok(Json(Page { items, next }))
}

/// The artifacts of an attempt, each with a presigned GET.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}/artifacts",
    tag = "attempts",
    operation_id = "list_artifacts",
    params(("id" = AttemptId, Path, description = "The attempt.")),
    responses((status = 200, body = Page<Artifact>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)), ("x-codes" = json!([Code::ObjectsUnavailable])))
)]
pub async fn artifacts(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
) -> Result<Json<Page<Artifact>>, Refusal> {
    find(&app, caller.tenant, id).await?;
    let mut items = Vec::new();
    for stored in store::artifacts::of_attempt(&app.pool, id).await? {
        items.push(Artifact {
            url: app.objects.presign_get(&stored.object, Side::Outside).await?,
            name: stored.name,
            media_type: stored.media_type,
            size_bytes: stored.size_bytes,
            digest: stored.digest,
        });
    }
    Ok(Json(Page { items, next: None }))
}
