//! `/v1/tasks`: registered tasks.

use assay_core::{
    digest::Digest,
    wire::people::{NewTask, Page, Task},
};
use axum::extract::State;

use crate::{
    app::Shared,
    archive, check,
    code::Code,
    extract::{Id, Json, Paging, Query, Reader, Submitter},
    refusal::Refusal,
    store,
};

/// Registers an uploaded task after checking it.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    operation_id = "create_task",
    request_body = NewTask,
    responses((status = 200, body = Task)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)), ("x-codes" = json!([Code::NotUploaded, Code::DigestMismatch, Code::ArchiveTooLarge, Code::ArchiveInvalid, Code::TaskInvalid, Code::TaskUnsupported, Code::ObjectsUnavailable])))
)]
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

/// Tasks, newest first.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    operation_id = "list_tasks",
    params(Paging),
    responses((status = 200, body = Page<Task>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
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

/// One task.
#[utoipa::path(
    get,
    path = "/v1/tasks/{digest}",
    tag = "tasks",
    operation_id = "show_task",
    params(("digest" = Digest, Path, description = "The task.")),
    responses((status = 200, body = Task)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(digest): Id<Digest>,
) -> Result<Json<Task>, Refusal> {
    let task = store::tasks::find(&app.pool, caller.tenant, digest).await?;
    task.map(Json).ok_or_else(|| Refusal::not_found("task"))
}
