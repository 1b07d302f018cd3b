//! `POST /v1/workers`: a worker introduces itself.

use assay_core::{
    id::WorkerId,
    wire::{
        WIRE, WIRE_OLDEST,
        worker::{Register, Registered},
    },
};
use axum::extract::State;

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{Json, WorkerKey},
    refusal::Refusal,
    store,
};

/// A worker introduces itself. One that shows the token of its pod, or a key that is bound to a worker, has the name and class
/// of that, whatever it says. Wire versions must overlap; with `--require-same-commit` the commits must be the same.
#[utoipa::path(
    post,
    path = "/v1/workers",
    tag = "workers",
    operation_id = "register_worker",
    request_body = Register,
    responses((status = 200, body = Registered)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::WireMismatch, Code::CommitMismatch])))
)]
pub async fn register(
    State(app): State<Shared>,
    WorkerKey(caller): WorkerKey,
    Json(mut new): Json<Register>,
) -> Result<Json<Registered>, Refusal> {
    if let Some(identity) = &caller.identity {
        new.name.clone_from(&identity.name);
        new.class.clone_from(&identity.class);
    }
    super::super::check_name(&new.name)?;
    if new.wire < WIRE_OLDEST || new.wire_oldest > WIRE {
        let detail = format!(
            "the worker speaks wire {} to {}, this server {WIRE_OLDEST} to {WIRE}",
            new.wire_oldest, new.wire
        );
        return Err(Refusal::new(Code::WireMismatch, detail));
    }
    same_commit(&app, &new.commit)?;
    let id = WorkerId(app.id()?);
    let mut tx = store::begin(&app.pool).await?;
    store::workers::register(&mut tx, id, &new).await?;
    store::audit::append(&mut tx, caller.actor(), "worker.register", &id.to_string()).await?;
    tx.commit().await?;
    Ok(Json(Registered {
        worker: id,
        installation: app.installation.clone(),
        lease_ms: app.config.lease_ms,
        beat_ms: app.config.beat_ms,
        limits: app.catalogue.limits.clone(),
    }))
}

/// Refuses another commit where the operator wants one commit everywhere.
pub fn same_commit(app: &App, theirs: &str) -> Result<(), Refusal> {
    if !app.config.require_same_commit || theirs == app.commit {
        return Ok(());
    }
    let detail = format!(
        "the worker was built from {theirs}, this server from {}",
        app.commit
    );
    Err(Refusal::new(Code::CommitMismatch, detail))
}
