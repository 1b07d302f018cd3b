//! `POST /v1/keys`: makes an API key of the caller's tenant.

use assay_core::wire::people::{Key, NewKey};
use axum::extract::State;

use crate::{
    app::Shared,
    extract::{Administrator, Json},
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
    extensions(("x-scopes" = json!(Administrator::SCOPES)))
)]
pub async fn create(
    State(app): State<Shared>,
    Administrator(caller): Administrator,
    Json(new): Json<NewKey>,
) -> Result<Json<Key>, Refusal> {
    super::check_name(&new.name)?;
    let made = key::fresh(new.name, new.scope)?;
    let mut tx = store::begin(&app.pool).await?;
    key::keep(&mut tx, caller.tenant, &made).await?;
    store::audit::append(&mut tx, caller.actor(), "key.create", &made.id.to_string()).await?;
    tx.commit().await?;
    Ok(Json(made))
}
