//! `GET /version`: which build this is.

use assay_core::wire::{WIRE, people::Version};
use axum::extract::State;

use crate::{app::Shared, extract::Json};

/// Needs no key.
pub async fn version(State(app): State<Shared>) -> Json<Version> {
    Json(Version {
        commit: app.commit.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wire: WIRE,
    })
}
