//! `/v1/task-sets`: named, immutable lists of tasks.

use std::collections::HashSet;

use assay_core::{
    digest::Digest,
    id::{TaskSetId, TenantId},
    wire::people::{NewTaskSet, Page, TaskSet},
};
use axum::extract::State;

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{Id, Json, Paging, Query, Reader, Submitter},
    refusal::Refusal,
    store,
};

/// Names a list of registered tasks.
#[utoipa::path(
    post,
    path = "/v1/task-sets",
    tag = "task sets",
    operation_id = "create_task_set",
    request_body = NewTaskSet,
    responses((status = 200, body = TaskSet)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)), ("x-codes" = json!([Code::NoTasks, Code::DuplicateTask, Code::UnknownTask])))
)]
pub async fn create(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Json(new): Json<NewTaskSet>,
) -> Result<Json<TaskSet>, Refusal> {
    super::check_name(&new.name)?;
    known(&app, caller.tenant, &new.tasks).await?;
    let id = TaskSetId(app.id()?);
    let mut tx = store::begin(&app.pool).await?;
    store::task_sets::insert(&mut tx, caller.tenant, id, &new).await?;
    store::audit::append(&mut tx, caller.actor(), "task_set.create", &id.to_string()).await?;
    tx.commit().await?;
    find(&app, caller.tenant, id).await
}

/// The tasks, in the order given; refuses an empty list, doubles and unknown ones.
pub async fn known(
    app: &App,
    tenant: TenantId,
    tasks: &[Digest],
) -> Result<Vec<store::tasks::Brief>, Refusal> {
    if tasks.is_empty() {
        return Err(Refusal::new(Code::NoTasks, "name at least one task"));
    }
    let mut seen = HashSet::new();
    if let Some(double) = tasks.iter().find(|task| !seen.insert(**task)) {
        let detail = format!("task {double} is named twice; use repeats to run a task more often");
        return Err(Refusal::new(Code::DuplicateTask, detail));
    }
    let digests: Vec<String> = tasks.iter().map(ToString::to_string).collect();
    let mut briefs: std::collections::HashMap<String, store::tasks::Brief> =
        store::tasks::briefs(&app.pool, tenant, &digests)
            .await?
            .into_iter()
            .map(|brief| (brief.digest.clone(), brief))
            .collect();
    let take = |digest: &String| {
        briefs.remove(digest).ok_or_else(|| {
            let detail = format!("task {digest} is not registered; register it by POST /v1/tasks first");
            Refusal::new(Code::UnknownTask, detail)
        })
    };
    digests.iter().map(take).collect()
}

async fn find(app: &App, tenant: TenantId, id: TaskSetId) -> Result<Json<TaskSet>, Refusal> {
    let set = store::task_sets::find(&app.pool, tenant, id).await?;
    set.map(Json).ok_or_else(|| Refusal::not_found("task set"))
}

/// Task sets, newest first.
#[utoipa::path(
    get,
    path = "/v1/task-sets",
    tag = "task sets",
    operation_id = "list_task_sets",
    params(Paging),
    responses((status = 200, body = Page<TaskSet>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TaskSet>>, Refusal> {
    let rows = store::task_sets::page(&app.pool, caller.tenant, paging.cursor, paging.probe()).await?;
    Ok(Json(paging.page(rows, |set| set.id.0)))
}

/// One task set.
#[utoipa::path(
    get,
    path = "/v1/task-sets/{id}",
    tag = "task sets",
    operation_id = "show_task_set",
    params(("id" = TaskSetId, Path, description = "The task set.")),
    responses((status = 200, body = TaskSet)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<TaskSetId>,
) -> Result<Json<TaskSet>, Refusal> {
    find(&app, caller.tenant, id).await
}
