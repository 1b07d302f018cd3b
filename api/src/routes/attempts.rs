//! Attempts as people see them: rows, events, artifacts.

use assay_core::{
    id::{AttemptId, RunId, TenantId},
    wire::people::{Artifact, Attempt, Event, Page},
};
use axum::extract::State;
use serde::Deserialize;

use crate::{
    app::{App, Shared},
    extract::{Id, Json, Query, Reader},
    refusal::Refusal,
    store,
};

/// `GET /v1/runs/{id}/attempts`: the first one first.
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

/// `GET /v1/attempts/{id}`.
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
) -> Result<Json<Attempt>, Refusal> {
    find(&app, caller.tenant, id).await.map(Json)
}

/// Which events.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Which {
    /// Those after this cursor.
    #[serde(default)]
    after: i64,
    /// The same, under the name that listings use.
    #[serde(default)]
    cursor: Option<i64>,
    /// Rows per page, 1 to 500.
    #[serde(default)]
    limit: Option<u16>,
}

/// `GET /v1/attempts/{id}/events?after=`: published ones, in order. `next` is absent when nothing follows yet.
pub async fn events(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
    Query(which): Query<Which>,
) -> Result<Json<Page<Event>>, Refusal> {
    find(&app, caller.tenant, id).await?;
    let size = usize::from(which.limit.unwrap_or(500).clamp(1, 500));
    let after = which.cursor.unwrap_or(which.after);
    let probe = i64::try_from(size).unwrap_or(500) + 1;
    let mut items = store::events::page(&app.pool, caller.tenant, id, after, probe).await?;
    let more = items.len() > size;
    items.truncate(size);
    let next = items
        .last()
        .filter(|_| more)
        .map(|event| event.cursor.to_string());
    Ok(Json(Page { items, next }))
}

/// `GET /v1/attempts/{id}/artifacts`.
pub async fn artifacts(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
) -> Result<Json<Page<Artifact>>, Refusal> {
    find(&app, caller.tenant, id).await?;
    let mut items = Vec::new();
    for stored in store::artifacts::of_attempt(&app.pool, id).await? {
        items.push(Artifact {
            url: app.objects.presign_get(&stored.object).await?,
            name: stored.name,
            media_type: stored.media_type,
            size_bytes: stored.size_bytes,
            digest: stored.digest,
        });
    }
    Ok(Json(Page { items, next: None }))
}
