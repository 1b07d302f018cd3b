//! The worker's side of the API.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /v1/workers` | [`Register`] | [`Registered`] |
//! | `POST /v1/workers/{id}/claim` | [`Claim`] | [`Claimed`]: adopted attempts first, then new ones |
//! | `POST /v1/workers/{id}/beat` | [`Beat`] | [`Beaten`] |
//! | `POST /v1/workers/{id}/handoff` | [`Handoff`] | 204 |
//! | `POST /v1/workers/{id}/orphans` | [`Orphans`] | [`OrphanVerdicts`] |
//! | `POST /v1/attempts/{id}/events` | [`PostEvents`] | 204 |
//! | `PUT /v1/attempts/{id}/output?fence=&step=&phase=&stream=&offset=` | raw bytes, at most 256 KiB | 204; a repeated chunk is ignored |
//! | `GET /v1/attempts/{id}/accounts?fence=` | – | [`Accounts`] |
//! | `GET /v1/attempts/{id}/task?fence=` | – | [`TaskUrl`] |
//! | `POST /v1/attempts/{id}/artifacts` | [`PutArtifact`] | [`ArtifactUpload`] |
//! | `POST /v1/attempts/{id}/report` | [`Report`] | 204 |
//!
//! Every write carries the fence. An older one is answered 409 `stale_fence`: the lease is lost, stop and clean up.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    agent::Contract,
    cause::Cause,
    control::proxy::Ledger,
    digest::Digest,
    id::{AttemptId, EvaluationId, Fence, RunId, SandboxId, TenantId, WorkerId},
    limits::LimitSettings,
    money::PicoUsd,
    phase::Phase,
    policy::Policy,
    price::PriceTable,
    secret::SecretValue,
    upstream::{Secret, Upstream},
};

/// A worker introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Register {
    /// Stable name, e.g. the host's or the pod's.
    pub name: String,
    /// Which runs it may take.
    pub class: String,
    /// Attempts at the same time.
    pub slots: u32,
    /// `containers` or `kubernetes`.
    pub engine: String,
    /// The commit that it was built from.
    pub commit: String,
    /// The newest wire version that it speaks.
    pub wire: u32,
    /// The oldest wire version that it speaks.
    pub wire_oldest: u32,
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The worker's id for this life.
    pub worker: WorkerId,
    /// The installation's id, put into every label.
    pub installation: String,
    /// Length of a lease, milliseconds.
    pub lease_ms: u64,
    /// Time between heartbeats, milliseconds.
    pub beat_ms: u64,
    /// Defaults and maxima of limits.
    pub limits: LimitSettings,
}

/// Asks for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Claim {
    /// Free slots.
    pub slots: u32,
    /// How many of them there is room for where sandboxes run: at most so many new runs are handed out. What is adopted has
    /// its sandbox already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<u32>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Claimed {
    /// At most as many as asked for.
    pub assignments: Vec<Assignment>,
}

/// Everything that a worker needs for one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Assignment {
    /// The owner.
    pub tenant: TenantId,
    /// The evaluation.
    pub evaluation: EvaluationId,
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: AttemptId,
    /// 1 for the first.
    pub number: u32,
    /// The fence of this lease.
    pub fence: Fence,
    /// When the whole attempt must have ended.
    pub deadline: Timestamp,
    /// The time there when this was handed out: what is left until the deadline does not go by the worker's clock. Absent from
    /// older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
    /// The task's archive.
    pub task: Archive,
    /// How the agent is run.
    pub contract: Contract,
    /// The agent's bundle; absent for `oracle` and `nop`.
    pub agent: Option<Archive>,
    /// What the run may reach and spend.
    pub policy: Policy,
    /// What is left for the agent's models after earlier attempts.
    pub budget: PicoUsd,
    /// What is left for the verifier's models after earlier attempts.
    pub verifier_budget: PicoUsd,
    /// The model services of the policy's models.
    pub upstreams: Vec<Upstream>,
    /// Prices of the policy's models, frozen at submit.
    pub prices: PriceTable,
    /// The evaluation's named values for `${VAR}` templates.
    pub values: BTreeMap<String, String>,
    /// Those that no sandbox gets.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretValue>,
    /// Seed of the sandbox's key pair, 64 hexadecimal digits.
    pub seed: Secret,
    /// The recording that model calls are answered from, where the policy names one. No archive: JSON lines.
    #[serde(default)]
    pub replay: Option<Archive>,
    /// Where a worker before this one had got to; absent for a new attempt.
    pub adopted: Option<Progress>,
}

/// An archive (`tar.gz`), or a recording, in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Archive {
    /// Its digest.
    pub digest: Digest,
    /// Its name, for people.
    pub name: String,
    /// A presigned URL.
    pub url: String,
    /// Its size.
    pub size_bytes: u64,
}

/// How far an attempt is: the row that the pure `next` decides from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Progress {
    /// The step, from 0.
    pub step: u32,
    /// The phase.
    pub phase: Option<Phase>,
    /// The phase's deadline.
    pub phase_deadline: Option<Timestamp>,
    /// The live sandbox.
    pub sandbox: Option<SandboxId>,
    /// Generation of the last phase switch asked for.
    pub generation: u64,
    /// The last event's number.
    pub seq: u64,
    /// Bytes stored so far, by [`Channel::key`](super::channel::Channel::key).
    pub output: BTreeMap<String, u64>,
    /// What the driver must remember between phases, its own JSON.
    pub memo: serde_json::Value,
}

/// Heartbeats of all leases of a worker, in one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Beat {
    /// Every lease held.
    pub leases: Vec<Lease>,
    /// True while the worker still claims; false while it drains.
    pub claiming: bool,
}

/// A lease as its holder names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Lease {
    /// The attempt.
    pub attempt: AttemptId,
    /// The fence.
    pub fence: Fence,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Beaten {
    /// Leases that are no longer held: stop and touch nothing.
    pub lost: Vec<AttemptId>,
    /// Attempts that somebody cancelled: destroy the sandbox, then report `cancelled`.
    pub cancel: Vec<AttemptId>,
}

/// Gives leases back, for another worker to adopt at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Handoff {
    /// The leases.
    pub leases: Vec<Lease>,
}

/// Sandboxes that a reconciler found without a driver of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Orphans {
    /// Their attempts, from the labels.
    pub attempts: Vec<AttemptId>,
}

/// What may be done to each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrphanVerdicts {
    /// Closed, unknown to this installation, past the deadline, or un-adopted for two leases (and then closed as `lost`).
    pub delete: Vec<AttemptId>,
}

/// Appends events and moves the attempt's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PostEvents {
    /// The fence.
    pub fence: Fence,
    /// In order, `seq` without a gap after the last one stored; repeated ones are ignored.
    pub events: Vec<NewEvent>,
    /// How far the attempt is after the last event (its `seq` and `output` are ignored).
    pub progress: Progress,
}

/// One event of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewEvent {
    /// Counts from 1 within the attempt.
    pub seq: u64,
    /// When, by the worker's clock.
    pub at: Timestamp,
    /// The step, from 0.
    pub step: u32,
    /// The phase.
    pub phase: Phase,
    /// What happened, e.g. `phase_started`, `phase_ended`, `switched`, `note`.
    pub kind: String,
    /// Details.
    pub data: serde_json::Value,
}

/// Asks for the upload of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PutArtifact {
    /// The fence.
    pub fence: Fence,
    /// Its name within the attempt, e.g. `patch.diff`, `artifacts.tar`, `audit.jsonl`, `build.log`.
    pub name: String,
    /// MIME type.
    pub media_type: String,
    /// Size.
    pub size_bytes: u64,
    /// Digest.
    pub digest: Digest,
}

/// Where to put it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ArtifactUpload {
    /// A presigned PUT. It takes the announced bytes only, with their digest in base64 as `x-amz-checksum-sha256`.
    pub url: String,
}

/// Closes the attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Report {
    /// The fence.
    pub fence: Fence,
    /// Why it ended.
    pub cause: Cause,
    /// A sentence for people.
    pub detail: String,
    /// The reward by key, where there is one.
    pub rewards: Option<BTreeMap<String, f64>>,
    /// The score: `rewards["reward"]`, or the mean of the keys.
    pub score: Option<f64>,
    /// `shared` or `separate`, where a verifier ran.
    pub verifier_mode: Option<String>,
    /// The agent's account.
    pub ledger: Ledger,
    /// The verifier's account.
    pub verifier_ledger: Ledger,
    /// What the sandbox used.
    pub usage: ResourceUse,
    /// Whether model calls were answered from a recording.
    #[serde(default)]
    pub replayed: bool,
}

/// What the streamed logs of an attempt's proxies say: all that is known of a sandbox that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Accounts {
    /// Of the phases before the verifier's. A request without an end counts as unresolved.
    pub agent: Ledger,
    /// Of the verifier's phases.
    pub verifier: Ledger,
}

/// Where the task's archive is now: a URL of the claim may have ended when a builder starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskUrl {
    /// A presigned GET.
    pub url: String,
}

/// What a sandbox used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ResourceUse {
    /// CPU time, milliseconds.
    pub cpu_ms: u64,
    /// Highest memory, bytes.
    pub memory_peak_bytes: u64,
    /// Kills for memory.
    pub oom_kills: u64,
}
