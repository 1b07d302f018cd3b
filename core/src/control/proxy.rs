//! The proxy's control interface on port 15090, and the assignment that it starts from.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /healthz` | – | [`Health`] |
//! | `GET /trust` | – | the public root, PEM |
//! | `POST /v1/phase` | [`Switch`] | [`Switched`] |
//! | `GET /v1/ledger` | – | [`Ledger`] |
//! | `GET /v1/log?from=N` | – | the write-ahead log's bytes from offset N, at most 1 MiB |
//! | `GET /v1/audit?from=N` | – | the audit's bytes (JSON lines) from offset N, at most 1 MiB; what lies before N may be forgotten |
//! | `POST /v1/close` | – | 204: nobody is served any more, and the audit has its last line |
//! | `GET /v1/recording?from=N` | – | the recording's bytes (JSON lines) from offset N, at most 1 MiB |
//! | `POST /v1/replay?from=N` | the next bytes of the recording to answer from, at most 64 KiB | [`Loaded`] |
//! | `POST /v1/probe` | [`Probe`] | [`Probed`] |
//! | `GET /v1/metrics` | – | [`Metrics`] |
//! | `POST /v1/collected` | – | 202; after SIGTERM the proxy waits for this |
//!
//! Every route under `/v1` is signed, and its answer carries a MAC.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};

pub use super::ledger::Ledger;
pub use crate::audit::{AuditLine, Decision};
use crate::{
    egress::{Egress, HostName, HostPattern},
    id::{Fence, RunId, SandboxId},
    money::PicoUsd,
    phase::EgressPhase,
    policy::{AuditDuty, Recorded},
    price::{ModelPrice, ModelSlug},
    recording,
    secret::Injection,
    upstream::{Secret, Upstream},
};

/// The file `/assay/assignment.json` of the proxy container. Read once, then unlinked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyAssignment {
    /// Which sandbox this is.
    pub sandbox: SandboxId,
    /// Which run it works for; sent upstream as the user's name so that caches of runs stay apart.
    pub run: RunId,
    /// The fence at creation.
    pub fence: Fence,
    /// The control plane's public key, hexadecimal.
    pub public_key: String,
    /// The key of the MAC on answers, hexadecimal.
    pub mac_key: Secret,
    /// What each phase may reach; a phase that is absent reaches nothing.
    pub egress: BTreeMap<EgressPhase, Egress>,
    /// By step, counted from 0: the phases that may reach something else in this step than `egress` says.
    #[serde(default)]
    pub steps: BTreeMap<u32, BTreeMap<EgressPhase, Egress>>,
    /// The phase at start.
    pub phase: EgressPhase,
    /// The purse of each phase that may call models.
    pub purses: BTreeMap<EgressPhase, Purse>,
    /// The model services, with their keys.
    pub upstreams: Vec<Upstream>,
    /// Prices of all models of all purses, frozen.
    pub prices: BTreeMap<ModelSlug, ModelPrice>,
    /// The version of the price table.
    pub price_version: String,
    /// The only DNS servers that the proxy asks. Exempt from the check that addresses are global.
    pub resolvers: Vec<SocketAddr>,
    /// The operator's fixed addresses for names; exempt from the check too.
    #[serde(default)]
    pub fixed_addresses: BTreeMap<HostName, SocketAddr>,
    /// An extra root (PEM) for upstreams with a fixed address.
    #[serde(default)]
    pub extra_roots_pem: Option<String>,
    /// Hosts whose connections are refused when their hello carries an encrypted one.
    #[serde(default)]
    pub deny_ech: BTreeSet<HostPattern>,
    /// Values that the workload holds placeholders for.
    #[serde(default)]
    pub injections: Vec<Injection>,
    /// What happens when the audit cannot be written.
    #[serde(default)]
    pub audit: AuditDuty,
    /// Whether model calls are recorded with their bodies.
    #[serde(default)]
    pub record: Recorded,
    /// Where model calls are answered from instead of by the services. Then no service is dialled and nothing costs
    /// anything; no call is answered before the recording was handed over.
    #[serde(default)]
    pub replay: Option<recording::Source>,
}

/// What one phase may spend, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Dollars.
    pub budget: PicoUsd,
    /// Models that may be named.
    pub models: BTreeSet<ModelSlug>,
    /// Optional request fields that are refused.
    #[serde(default)]
    pub deny_fields: BTreeSet<String>,
    /// Requests.
    pub max_requests: u64,
    /// Tokens.
    pub max_tokens: u64,
    /// Requests at the same time.
    pub max_parallel: u32,
    /// Requests in a minute.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, in and out, as reserved.
    #[serde(default)]
    pub tokens_per_minute: Option<u64>,
    /// Written into every request when set.
    #[serde(default)]
    pub seed: Option<i64>,
    /// How long a model service may be silent before a request is given up, milliseconds.
    #[serde(default = "ten_minutes")]
    pub silence_ms: u64,
}

/// A model that nobody serves. Sandboxes that serve no run may name it, with an empty purse: so the self-test sees each
/// refusal without anybody being billed where there is none.
pub const TRIAL_MODEL: &str = "selftest/none";

/// Models may think for long before the first byte.
fn ten_minutes() -> u64 {
    600_000
}

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Random at start; signatures name it.
    pub boot: String,
    /// Milliseconds since that start.
    pub monotonic_ms: u64,
    /// Wire version of this interface.
    pub wire: u32,
    /// The commit that it was built from.
    pub commit: String,
    /// Serving; false after a restart, when it only reports, and once the packet rules are gone.
    pub serving: bool,
    /// What keeps it from serving well, e.g. `log_broken`; empty when everything works. Certificates and listeners are
    /// there before anything is answered at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// The current phase.
    pub phase: EgressPhase,
    /// The generation of the current phase.
    pub generation: u64,
}

/// `POST /v1/phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Higher than every generation before.
    pub generation: u64,
    /// The phase to switch to.
    pub phase: EgressPhase,
    /// The step that begins or goes on, from 0.
    #[serde(default)]
    pub step: u32,
}

/// The answer of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// The generation now in force.
    pub generation: u64,
    /// Flows of older generations that were cut.
    pub cut: u64,
}

/// How much of the recording to answer from is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Where the next bytes begin.
    pub bytes: u64,
    /// Whether it is there as a whole, and is the one that the assignment names.
    pub ready: bool,
}

/// `POST /v1/probe`: connect to these addresses, as the sandbox's network lets the proxy. For the control plane's proof
/// that a network policy is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// At most [`MOST_PROBES`].
    pub addresses: Vec<SocketAddr>,
    /// How long each may take, milliseconds; at most five seconds.
    pub patience_ms: u64,
}

/// Most addresses of one [`Probe`].
pub const MOST_PROBES: usize = 8;

/// The answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// For each address whether it took the connection.
    pub connected: Vec<bool>,
}

/// `GET /v1/metrics`: what the proxy counted. The screener sums it up and exposes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Decisions by `kind`, `decision` and `reason`, all of them words of the audit.
    pub decisions: Vec<Counted>,
    /// Connections of the workload that are open now.
    pub connections: u64,
    /// Times in milliseconds, by what was waited for: `hello`, `dial`, `handshake`, `model_connect`, `first_byte`,
    /// `model_call`.
    pub waits: BTreeMap<String, Histogram>,
    /// The account.
    pub ledger: Ledger,
}

/// How often something was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// As in the audit.
    pub kind: String,
    /// As in the audit.
    pub decision: Decision,
    /// As in the audit.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// How long something took: counts by upper bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// For each of [`Histogram::BOUNDS_MS`] how many took at most that long and longer than the bound before; the last
    /// is for everything longer.
    pub counts: Vec<u64>,
    /// The sum of all, milliseconds.
    pub sum_ms: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; Self::BOUNDS_MS.len() + 1],
            sum_ms: 0,
        }
    }
}

impl Histogram {
    /// The upper bounds, milliseconds.
    pub const BOUNDS_MS: [u64; 14] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 30_000, 120_000, 600_000,
    ];

    /// Counts one.
    pub fn observe(&mut self, ms: u64) {
        let at = Self::BOUNDS_MS.iter().take_while(|bound| ms > **bound).count();
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }
}

/// `GET /usage` on the workload's side: what it has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadUsage {
    /// Granted in this phase.
    pub budget_usd: PicoUsd,
    /// Spent for certain.
    pub settled_usd: PicoUsd,
    /// Held by requests under way.
    pub held_usd: PicoUsd,
    /// Perhaps spent: cut off before the bill was known.
    pub unresolved_usd: PicoUsd,
    /// Left.
    pub remaining_usd: PicoUsd,
    /// Requests left.
    pub remaining_requests: u64,
    /// Models that may be named.
    pub models: BTreeSet<ModelSlug>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_by_upper_bound() {
        let mut histogram = Histogram::default();
        for ms in [0, 1, 2, 6, 600_000, 600_001] {
            histogram.observe(ms);
        }
        assert_eq!(histogram.counts, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(histogram.sum_ms, 1_200_010);
    }
}
