//! Settings, read once from arguments and environment.

use std::{net::SocketAddr, path::PathBuf};

/// Where the database is.
#[derive(Clone, clap::Args)]
pub struct Database {
    /// Connection string of PostgreSQL.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Most connections of this process.
    #[arg(long, env = "ASSAY_DATABASE_CONNECTIONS", default_value_t = 24)]
    pub database_connections: u32,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database(…)")
    }
}

/// Everything that one API server needs.
#[derive(Clone, clap::Args)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// The object store.
    #[command(flatten)]
    pub objects: crate::objects::Settings,
    /// Workers known by the tokens of their pods.
    #[command(flatten)]
    pub worker_tokens: crate::identity::Settings,
    /// Address for people and workers.
    #[arg(long, env = "ASSAY_LISTEN", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Internal address: pending work, metrics, health.
    #[arg(long, env = "ASSAY_LISTEN_INTERNAL", default_value = "127.0.0.1:8001")]
    pub listen_internal: SocketAddr,
    /// Bearer token of `/pending-work`; none means open.
    #[arg(long, env = "ASSAY_PENDING_WORK_TOKEN", hide_env_values = true)]
    pub pending_work_token: Option<String>,
    /// TOML file with model services, prices and limits.
    #[arg(long, env = "ASSAY_UPSTREAMS")]
    pub upstreams: Option<PathBuf>,
    /// Key that seals the seeds of sandboxes, 64 hexadecimal digits; the same on every replica.
    #[arg(long, env = "ASSAY_SEAL_KEY", hide_env_values = true)]
    pub seal_key: Option<String>,
    /// File that holds the seal key.
    #[arg(long, env = "ASSAY_SEAL_KEY_FILE", conflicts_with = "seal_key")]
    pub seal_key_file: Option<PathBuf>,
    /// Refuse registration and claims of workers built from another commit.
    #[arg(long, env = "ASSAY_REQUIRE_SAME_COMMIT")]
    pub require_same_commit: bool,
    /// Source folder whose commit is shown when none was baked in.
    #[arg(long, env = "ASSAY_SOURCE_DIR")]
    pub source_dir: Option<PathBuf>,
    /// Length of a lease, milliseconds.
    #[arg(long, env = "ASSAY_LEASE_MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub lease_ms: u64,
    /// Time between heartbeats, milliseconds.
    #[arg(long, env = "ASSAY_BEAT_MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub beat_ms: u64,
    /// Attempts that one worker runs at the same time, for `desired` of `/pending-work`.
    #[arg(long, env = "ASSAY_SLOTS_PER_WORKER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub slots_per_worker: u32,
    /// Most workers that the scaler can start, for the cap of `/pending-work`.
    #[arg(long, env = "ASSAY_MAX_WORKERS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_workers: u32,
    /// Largest archive that is taken, bytes.
    #[arg(long, env = "ASSAY_MAX_ARCHIVE_BYTES", default_value_t = 512 << 20)]
    pub max_archive_bytes: u64,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("listen_internal", &self.listen_internal)
            .field("lease_ms", &self.lease_ms)
            .finish_non_exhaustive()
    }
}
