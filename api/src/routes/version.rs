//! `GET /version`: which build this is.

use assay_core::wire::{WIRE, people::Version};
use axum::extract::State;

use crate::{app::Shared, extract::Json};

/// Which build this is. Needs no key.
#[utoipa::path(
    get,
    path = "/version",
    tag = "service",
    operation_id = "version",
    responses((status = 200, body = Version))
)]
pub async fn version(State(app): State<Shared>) -> Json<Version> {
    Json(Version {
        commit: app.commit.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wire: WIRE,
    })
}
