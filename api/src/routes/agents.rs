//! `/v1/agents`: submitted agents.

use assay_core::{
    id::AgentId,
    wire::people::{Agent, NewAgent, Page},
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

/// Registers an agent; a `patch` or `command` agent by its uploaded bundle.
#[utoipa::path(
    post,
    path = "/v1/agents",
    tag = "agents",
    operation_id = "create_agent",
    request_body = NewAgent,
    responses((status = 200, body = Agent)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)), ("x-codes" = json!([Code::NotUploaded, Code::DigestMismatch, Code::ArchiveTooLarge, Code::ArchiveInvalid, Code::AgentInvalid, Code::ObjectsUnavailable])))
)]
pub async fn create(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Json(new): Json<NewAgent>,
) -> Result<Json<Agent>, Refusal> {
    super::check_name(&new.name)?;
    let size_bytes = match (new.contract.has_bundle(), new.digest) {
        (true, Some(digest)) => {
            let fetched = archive::fetch(&app, caller.tenant, digest).await?;
            check::agent(&fetched, new.contract).await?;
            archive::keep(&app, caller.tenant, digest, &fetched).await?;
            fetched.size_bytes
        }
        (false, None) => 0,
        (true, None) => {
            return Err(inconsistent(
                "a patch or command agent needs the digest of its bundle",
            ));
        }
        (false, Some(_)) => return Err(inconsistent("oracle and nop are built in and have no bundle")),
    };
    let id = AgentId(app.id()?);
    let mut tx = store::begin(&app.pool).await?;
    let agent = store::agents::insert(&mut tx, caller.tenant, id, &new, size_bytes).await?;
    store::audit::append(&mut tx, caller.actor(), "agent.create", &id.to_string()).await?;
    tx.commit().await?;
    Ok(Json(agent))
}

fn inconsistent(detail: &str) -> Refusal {
    Refusal::new(Code::AgentInvalid, detail)
}

/// Agents, newest first.
#[utoipa::path(
    get,
    path = "/v1/agents",
    tag = "agents",
    operation_id = "list_agents",
    params(Paging),
    responses((status = 200, body = Page<Agent>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Agent>>, Refusal> {
    let rows = store::agents::page(&app.pool, caller.tenant, paging.cursor, paging.probe()).await?;
    Ok(Json(paging.page(rows, |agent| agent.id.0)))
}

/// One agent.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}",
    tag = "agents",
    operation_id = "show_agent",
    params(("id" = AgentId, Path, description = "The agent.")),
    responses((status = 200, body = Agent)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn show(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AgentId>,
) -> Result<Json<Agent>, Refusal> {
    let agent = store::agents::find(&app.pool, caller.tenant, id).await?;
    agent.map(Json).ok_or_else(|| Refusal::not_found("agent"))
}
