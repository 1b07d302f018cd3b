//! The side of the API for people, the CLI and the pages.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /v1/uploads` | [`NewUpload`] | [`Upload`] (presigned PUT; `url` absent when the object is there already) |
//! | `POST /v1/tasks` | [`NewTask`] | [`Task`] |
//! | `GET /v1/tasks`, `GET /v1/tasks/{digest}` | – | page of [`Task`], [`Task`] |
//! | `POST /v1/agents` | [`NewAgent`] | [`Agent`] |
//! | `GET /v1/agents`, `GET /v1/agents/{id}` | – | page of [`Agent`], [`Agent`] |
//! | `POST /v1/task-sets`, `GET /v1/task-sets[/{id}]` | [`NewTaskSet`] | [`TaskSet`] |
//! | `POST /v1/evaluations` (`Idempotency-Key`) | [`NewEvaluation`] | [`Evaluation`] |
//! | `GET /v1/evaluations[/{id}]` | – | page of [`Evaluation`], [`Evaluation`] |
//! | `POST /v1/evaluations/{id}/cancel`, `POST /v1/runs/{id}/cancel` | – | [`Evaluation`], [`Run`] |
//! | `GET /v1/runs?evaluation=`, `GET /v1/runs/{id}` | – | page of [`Run`], [`Run`] |
//! | `GET /v1/runs/{id}/attempts`, `GET /v1/attempts/{id}` | – | page of [`Attempt`], [`Attempt`] |
//! | `POST /v1/runs/{id}/recording` | – | [`Recording`]: of the run's last attempt, kept for replays |
//! | `GET /v1/attempts/{id}/events?after=&wait_ms=` | – | page of [`Event`] |
//! | `GET /v1/attempts/{id}/output?step=&phase=&stream=&offset=&wait_ms=` | – | raw bytes; header `assay-next-offset` |
//! | `GET /v1/attempts/{id}/outputs?beyond=&wait_ms=` | – | page of [`Output`]: which streams exist |
//! | `GET /v1/attempts/{id}/artifacts` | – | page of [`Artifact`] |
//! | `POST /v1/keys` | [`NewKey`] | [`Key`], the secret this once |
//! | `DELETE /v1/keys/{name}` | – | [`Revoked`] |
//! | `GET /v1/limits` | – | [`crate::limits::LimitSettings`]: the operator's defaults and maxima |
//! | `GET /version` | – | [`Version`] |

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    agent::Contract,
    cause::Cause,
    digest::Digest,
    id::{AgentId, AttemptId, EvaluationId, Fence, KeyId, RunId, TaskSetId},
    money::PicoUsd,
    phase::Phase,
    policy::Policy,
    secret::SecretValue,
};

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent on the last.
    pub next: Option<String>,
}

/// Announces an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewUpload {
    /// Digest of the `tar.gz`.
    pub digest: Digest,
    /// Size of the `tar.gz`.
    pub size_bytes: u64,
}

/// Where to put it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Upload {
    /// A presigned PUT; absent when the object is there already.
    pub url: Option<String>,
}

/// Registers an uploaded task archive. The API reads and checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewTask {
    /// Digest of the uploaded `tar.gz`.
    pub digest: Digest,
    /// The folder's name, used where `task.toml` names none.
    pub name: String,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Task {
    /// Its digest.
    pub digest: Digest,
    /// Its name.
    pub name: String,
    /// Size of the archive.
    pub size_bytes: u64,
    /// What the checks warned about.
    pub warnings: Vec<String>,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// Registers an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewAgent {
    /// A name for people.
    pub name: String,
    /// How it is run.
    pub contract: Contract,
    /// Digest of the uploaded bundle; absent for `oracle` and `nop`.
    pub digest: Option<Digest>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// A name for people.
    pub name: String,
    /// How it is run.
    pub contract: Contract,
    /// Digest of the bundle.
    pub digest: Option<Digest>,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// Names a list of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewTaskSet {
    /// A name for people.
    pub name: String,
    /// The tasks.
    pub tasks: Vec<Digest>,
}

/// A named, immutable list of task digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskSet {
    /// Its id.
    pub id: TaskSetId,
    /// A name for people.
    pub name: String,
    /// The tasks.
    pub tasks: Vec<Digest>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Submits an evaluation. One of `tasks` and `task_set` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewEvaluation {
    /// The agent.
    pub agent: AgentId,
    /// The tasks.
    #[serde(default)]
    pub tasks: Vec<Digest>,
    /// The task set.
    #[serde(default)]
    pub task_set: Option<TaskSetId>,
    /// The policy.
    #[serde(default)]
    pub policy: Policy,
    /// How often each task is run.
    #[serde(default = "one")]
    pub repeats: u32,
    /// Which workers may take the runs.
    #[serde(default = "class_one")]
    pub class: String,
    /// Lower is sooner, 0 to 9.
    #[serde(default = "middle_band")]
    pub priority: i16,
    /// Named values for `${VAR}` templates of the tasks.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Named values that no sandbox gets: it holds a placeholder, which the proxy replaces for one host and header.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretValue>,
}

fn one() -> u32 {
    1
}

fn class_one() -> String {
    "1".to_owned()
}

fn middle_band() -> i16 {
    5
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Evaluation {
    /// Its id.
    pub id: EvaluationId,
    /// The agent.
    pub agent: AgentId,
    /// The agent's name.
    pub agent_name: String,
    /// The policy's digest.
    pub policy_digest: Digest,
    /// The policy.
    pub policy: Policy,
    /// Counts of its runs by state.
    pub runs: Counts,
    /// Mean score of the graded runs.
    pub score: Option<f64>,
    /// What was spent, at most.
    pub cost: PicoUsd,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its last run ended.
    pub finished_at: Option<Timestamp>,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
}

/// Runs by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Waiting.
    pub queued: u64,
    /// Leased.
    pub running: u64,
    /// Ended, graded or not.
    pub finished: u64,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waiting for a worker (or for `not_before`).
    Queued,
    /// A worker holds it.
    Running,
    /// Ended with a graded attempt.
    Finished,
    /// Ended without one.
    GaveUp,
    /// Somebody cancelled it.
    Cancelled,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its evaluation.
    pub evaluation: EvaluationId,
    /// Its task.
    pub task: Digest,
    /// Its task's name.
    pub task_name: String,
    /// Which repeat, from 0.
    pub repeat: u32,
    /// Where it is.
    pub state: RunState,
    /// The phase of the attempt under way.
    pub phase: Option<Phase>,
    /// Not claimed before this.
    pub not_before: Timestamp,
    /// Attempts begun.
    pub attempts: u32,
    /// The score of the attempt that counted.
    pub score: Option<f64>,
    /// Why it ended, or why its last attempt did.
    pub cause: Option<Cause>,
    /// That in a sentence.
    pub detail: Option<String>,
    /// What was spent over all attempts, at most.
    pub cost: PicoUsd,
    /// Tokens in and out over all attempts.
    pub tokens: u64,
    /// Refusals of the proxy over all attempts.
    pub denied: u64,
    /// Whether model calls are answered from a recording.
    #[serde(default)]
    pub replayed: bool,
    /// The worker that holds it.
    pub worker: Option<String>,
    /// The attempt under way or the last one.
    pub attempt: Option<AttemptId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Its run.
    pub run: RunId,
    /// 1 for the first.
    pub number: u32,
    /// Its fence.
    pub fence: Fence,
    /// The step, from 0.
    pub step: u32,
    /// The phase.
    pub phase: Option<Phase>,
    /// Why it ended; absent while it is open.
    pub cause: Option<Cause>,
    /// That in a sentence.
    pub detail: Option<String>,
    /// The report, once there is one.
    pub report: Option<super::worker::Report>,
    /// The worker's name.
    pub worker: String,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it was closed.
    pub finished_at: Option<Timestamp>,
}

/// A recording of model calls, kept under its digest so that later runs can be answered from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Recording {
    /// Its digest: what a policy names as `replay`.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// The attempt that it was made in.
    pub attempt: AttemptId,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    /// The global cursor.
    pub cursor: i64,
    /// The attempt.
    pub attempt: AttemptId,
    /// The event itself.
    #[serde(flatten)]
    pub event: super::worker::NewEvent,
}

/// A stream of output that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Output {
    /// The step, from 0.
    pub step: u32,
    /// Which one.
    #[serde(flatten)]
    pub channel: super::channel::Channel,
    /// Bytes stored so far.
    pub bytes: u64,
}

/// An artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Artifact {
    /// Its name within the attempt.
    pub name: String,
    /// MIME type.
    pub media_type: String,
    /// Size.
    pub size_bytes: u64,
    /// Digest.
    pub digest: Digest,
    /// A presigned GET, valid for some minutes.
    pub url: String,
}

/// Makes an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewKey {
    /// A name for people.
    pub name: String,
    /// `validator`, `viewer`, `admin` or `worker`.
    pub scope: Scope,
    /// For scope `worker`: binds the key to the one worker of the key's name, which then takes runs of this class only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_class: Option<String>,
}

/// What a revocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Revoked {
    /// Keys that open nothing any more.
    pub keys: u64,
    /// Leases of the worker that they were bound to; other workers adopt them.
    pub leases: u64,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Submit, cancel, read.
    Validator,
    /// Read.
    Viewer,
    /// Everything a validator may, and keys.
    Admin,
    /// The worker's calls.
    Worker,
}

impl Scope {
    /// The word used in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::Worker => "worker",
        }
    }
}

/// A key, shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// The class of the one worker that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_class: Option<String>,
    /// The secret: `assay_…`. Only its hash is kept.
    pub secret: String,
}

/// What time it is where leases and deadlines are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Clock {
    /// The database's time.
    pub database: Timestamp,
}

/// Which build this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Version {
    /// The commit that it was built from, or `unknown`.
    pub commit: String,
    /// The package version.
    pub version: String,
    /// The wire version.
    pub wire: u32,
}
