//! A container beside the task's own one, as its runner and main's runner speak about it.
//!
//! The runner of a service is the first process of its container: it confines the service as main's runner confines the
//! agent, runs its healthcheck, and tells how it is on a port of the sandbox's own loopback, one JSON line for each change.
//! Who connects says first what it wants: `state` or, once only, `all`, which is for main's runner and brings the output as
//! well. It connects before any agent does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::runner::{RunnerConfig, UserSpec};

/// The file `/assay/service.json` of a service's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// What every runner is told.
    pub runner: RunnerConfig,
    /// Its name and its port.
    pub place: ServicePlace,
    /// What to run; never a shell string.
    pub argv: Vec<String>,
    /// The whole environment beside `PATH` and `HOME` defaults and the trust variables.
    pub env: BTreeMap<String, String>,
    /// Root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserSpec>,
    /// The working directory.
    pub cwd: String,
    /// When it is ready; without one: when it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<ServiceCheck>,
    /// What it starts after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
}

/// Where a service's runner answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlace {
    /// Its name.
    pub name: String,
    /// The port on the sandbox's loopback.
    pub port: u16,
}

/// A healthcheck, by Docker's rules. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// What to run; exit code 0 is good.
    pub argv: Vec<String>,
    /// Between two tries.
    pub interval_ms: u64,
    /// How long one try may take.
    pub timeout_ms: u64,
    /// So many failures in a row are too many.
    pub retries: u32,
    /// Failures before that do not count.
    pub start_period_ms: u64,
    /// Between two tries before that.
    pub start_interval_ms: u64,
}

/// Another service that must be there first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// Which one.
    pub place: ServicePlace,
    /// Its healthcheck must have passed; otherwise it must have started.
    pub healthy: bool,
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ServiceState {
    /// Not started yet, and what it waits for.
    Waiting {
        /// For people.
        reason: String,
    },
    /// It runs; its healthcheck has not passed yet.
    Started,
    /// It runs and is ready.
    Ready,
    /// It has ended by itself with code 0. What waits for it may go on.
    Done,
    /// It cannot be started, has failed, or never got ready.
    Failed {
        /// For people.
        reason: String,
    },
}

impl ServiceState {
    /// Nothing waits for it any more.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Ready | Self::Done)
    }
}

/// One line of what a service's runner tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceNews {
    /// How it is now.
    State(ServiceState),
    /// What it printed, both streams as they came, in standard base64.
    Output(String),
}

/// A service in main's [`super::runner::Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: ServiceState,
}

/// Asks for states.
pub const ASK_STATE: &str = "state";
/// Asks for states and output.
pub const ASK_ALL: &str = "all";
