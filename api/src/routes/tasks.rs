//! `/v1/tasks`: registered tasks.

use assay_core::{
    digest::Digest,
    wire::people::{NewTask, Page, Task},
};
use axum::extract::State;

use crate::{
    app::Shared,
    archive, check,
    extract::{Id, Json, Paging, Query, Reader, Submitter},
    refusal::Refusal,
    store,
};

/// `POST /v1/tasks`.
pub async fn create(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Json(new): Json<NewTask>,
) -> Result<Json<Task>, Refusal> {
    super::check_name(&new.name)?;
    let fetched = archive::fetch(&app, caller.tenant, new.digest).await?;
    let limits = app.catalogue.limits.clone();
    let checked = check::task(&fetched, new.digest, new.name, limits).await?;
    archive::keep(&app, caller.tenant, new.digest, &fetched).await?;
    let id = app.id()?;
    let mut tx = store::begin(&app.pool).await?;
    let task = store::tasks::insert(&mut tx, caller.tenant, id, &checked).await?;
    store::audit::append(&mut tx, caller.actor(), "task.create", &task.digest.to_string()).await?;
    tx.commit().await?;
    Ok(Json(task))
}

/// `GET /v1/tasks`: newest first.
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Task>>, Refusal> {
    let rows = store::tasks::page(&app.pool, caller.tenant, paging.cursor, paging.probe()).await?;
    let page = paging.page(rows, |(id, _)| *id);
    let items = page.items.into_iter().map(|(_, task)| task).collect();
    Ok(Json(Page {
        items,
        next: page.next,
    }))
}

/// `GET /v1/tasks/{digest}`.
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(digest): Id<Digest>,
) -> Result<Json<Task>, Refusal> {
    let task = store::tasks::find(&app.pool, caller.tenant, digest).await?;
    task.map(Json).ok_or_else(|| Refusal::not_found("task"))
}
