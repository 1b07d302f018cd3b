//! `POST /v1/keys`, `DELETE /v1/keys/{name}`: makes and revokes API keys of the caller's tenant.

use assay_core::wire::people::{Key, NewKey, Revoked, Scope};
use axum::extract::State;

use crate::{
    app::Shared,
    code::Code,
    extract::{Administrator, Id, Json},
    key,
    refusal::Refusal,
    store,
};

/// Makes an API key of the caller's tenant. The secret is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    operation_id = "create_key",
    request_body = NewKey,
    responses((status = 200, body = Key)),
    extensions(("x-scopes" = json!(Administrator::SCOPES)), ("x-codes" = json!([Code::NameTaken])))
)]
pub async fn create(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    Json(new): Json<NewKey>,
) -> Result<Json<Key>, Refusal> {
    super::check_name(&new.name)?;
    if let Some(class) = &new.worker_class {
        if new.scope != Scope::Worker {
            return Err(Refusal::invalid(
                "worker_class: only keys of scope worker are bound to a worker",
            ));
        }
        super::check_class(class)?;
    }
    let made = key::fresh(new)?;
    let mut tx = store::begin(&app.pool).await?;
    key::keep(&mut tx, caller.tenant, &made).await.map_err(taken)?;
    store::audit::append(&mut tx, caller.actor(), "key.create", &made.id.to_string()).await?;
    tx.commit().await?;
    Ok(Json(made))
}

fn taken(error: store::Error) -> Refusal {
    if error.is_duplicate() {
        return Refusal::new(
            Code::NameTaken,
            "a key is bound to the worker of this name; revoke it first",
        );
    }
    error.into()
}

/// Revokes every key of this name: from now on they open nothing. Where one was bound to a worker, its leases are handed over.
#[utoipa::path(
    delete,
    path = "/v1/keys/{name}",
    tag = "keys",
    operation_id = "revoke_key",
    params(("name" = String, Path, description = "The name of the keys.")),
    responses((status = 200, body = Revoked)),
    extensions(("x-scopes" = json!(Administrator::SCOPES)))
)]
pub async fn revoke(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    Id(name): Id<String>,
) -> Result<Json<Revoked>, Refusal> {
    let mut tx = store::begin(&app.pool).await?;
    let revoked = store::keys::revoke(&mut tx, caller.tenant, &name).await?;
    if revoked.keys == 0 {
        return Err(Refusal::not_found("key"));
    }
    store::audit::append(&mut tx, caller.actor(), "key.revoke", &name).await?;
    tx.commit().await?;
    Ok(Json(revoked))
}
