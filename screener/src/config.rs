//! What a screener is told when it starts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::platform::Credential;

/// How a screener works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API's base URL.
    pub api: String,
    /// What the worker shows to the API.
    pub credential: Credential,
    /// A stable name, e.g. the host's.
    pub name: String,
    /// Which runs it may take.
    pub class: String,
    /// Attempts at the same time.
    pub slots: u32,
    /// `containers` or `kubernetes`.
    pub engine: String,
    /// The commit that it was built from.
    pub commit: String,
    /// Archives and build contexts while they are needed.
    pub work_dir: PathBuf,
    /// The DNS servers that proxies ask. Without one, only hosts with a fixed address can be reached.
    pub resolvers: Vec<SocketAddr>,
    /// Where health and metrics are served; nowhere when absent.
    pub listen: Option<SocketAddr>,
    /// The longest pause between two claims that found nothing.
    pub longest_poll: Duration,
    /// Between two searches for sandboxes that nobody drives.
    pub reconcile_every: Duration,
}

impl Config {
    /// With the usual pauses, and without health.
    pub fn new(api: impl Into<String>, credential: impl Into<Credential>, work_dir: PathBuf) -> Self {
        Self {
            api: api.into(),
            credential: credential.into(),
            name: "screener".to_owned(),
            class: "1".to_owned(),
            slots: 2,
            engine: "containers".to_owned(),
            commit: assay_core::version::BAKED_COMMIT.to_owned(),
            work_dir,
            resolvers: Vec::new(),
            listen: None,
            longest_poll: Duration::from_secs(2),
            reconcile_every: Duration::from_secs(30),
        }
    }
}
