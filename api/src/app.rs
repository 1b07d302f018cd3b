//! What every handler shares. Nothing here changes after the start: all state is in the database.

use std::sync::Arc;

use assay_core::{
    clock::{Clock, SystemClock},
    id::uuid_v7,
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    catalogue::Catalogue, config::Config, identity::Doorkeeper, metrics::Metrics, objects::Objects, pending,
    privacy::Watch, seal::SealKey, wake::Wake,
};

/// The shared parts.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// The object store.
    pub objects: Objects,
    /// Settings.
    pub config: Config,
    /// Model services, prices, limits.
    pub catalogue: Catalogue,
    /// The seal of seeds.
    pub seal: SealKey,
    /// The installation's id.
    pub installation: String,
    /// The commit that this build comes from.
    pub commit: String,
    /// Defaults and maxima of limits, as recorded on attempts.
    pub limits: serde_json::Value,
    /// Whether the workspaces of model routers keep what agents send.
    pub privacy: Watch,
    /// Counters of this process.
    pub metrics: Metrics,
    /// A reading of the queue that is at most a second old.
    pub pending: pending::Cache,
    /// Knows workers by the tokens of their pods; none without an issuer.
    pub doorkeeper: Option<Doorkeeper>,
    /// Wakes readers of output and events.
    pub wake: Wake,
}

/// Shared by handlers and jobs.
pub type Shared = Arc<App>;

impl App {
    /// A fresh UUIDv7.
    pub fn id(&self) -> Result<Uuid, getrandom::Error> {
        fresh_id()
    }
}

/// A fresh UUIDv7.
pub fn fresh_id() -> Result<Uuid, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    Ok(uuid_v7(SystemClock.now(), random))
}

/// A random number.
pub fn dice() -> Result<u32, getrandom::Error> {
    getrandom::u32()
}
