//! The runner's control interface on port 15020: `/v1/…`, every route signed but `/healthz`.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /healthz` | – | [`Health`] |
//! | `PUT /v1/files?root=/dir&owner=uid:gid` | tar, signed trailer | [`Stored`] |
//! | `POST /v1/collect` | [`Collect`] | `application/x-tar`; the first entry is `manifest.json` ([`Manifest`]) |
//! | `POST /v1/execute` | [`Execute`] | NDJSON of [`Event`], until `end` |
//! | `GET /v1/execute/{id}?stdout=N&stderr=N` | – | the same stream from these offsets; replays what the ring still holds |
//! | `POST /v1/execute/{id}/signal` | [`Signal`] | 202 |
//! | `POST /v1/execute/{id}/stdin` | raw bytes, empty closes | 202 |
//! | `GET /v1/services/{name}/output` | – | the end of what a service beside main printed |
//! | `GET /v1/disk` | – | [`Written`]: what was written since the runner began |
//! | `POST /v1/kill` | – | kills every process but the runner; 200 when nobody is left |
//! | `POST /v1/shutdown` | – | 202, then the runner ends |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::service::{ServiceHealth, ServicePlace};
use crate::id::{ExecId, Fence, SandboxId};

/// The file `/assay/runner.json` of the main container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerConfig {
    /// Which sandbox this is.
    pub sandbox: SandboxId,
    /// The control plane's public key, hexadecimal.
    pub public_key: String,
    /// The fence at creation.
    pub fence: Fence,
    /// Whether a proxy runs beside this container. Without one no phase has any network.
    pub proxy: bool,
    /// Tasks at which the runner starts to kill, below the container's own limit.
    pub max_pids: u64,
    /// The containers beside main: no phase is taken before all of them are up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePlace>,
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
    /// Ready to take a phase: the proxy's health answered, the trust bundle is written, the services are up.
    pub ready: bool,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the workload is confined.
    pub isolation: Isolation,
    /// The containers beside main, as their own runners tell it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceHealth>,
}

/// How the workload is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A user namespace without the proxy's UID, and a seccomp filter.
    UserNamespace,
    /// User namespaces are refused here: `no_new_privs` and a seccomp filter.
    NoNewPrivileges,
}

/// Who runs something: as in an image's `USER`, a name or number with an optional group.
pub type UserSpec = String;

/// `POST /v1/execute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Chosen by the caller; a second request with a known id attaches to the first instead of starting again.
    pub exec: ExecId,
    /// What to run; never a shell string.
    pub argv: Vec<String>,
    /// The working directory; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The whole environment beside `PATH` and `HOME` defaults and the trust variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserSpec>,
    /// Keep standard input open for `/stdin`; closed otherwise.
    #[serde(default)]
    pub stdin: bool,
    /// Limits.
    pub limits: ExecLimits,
    /// Leave processes behind that outlive the command, and end when the command itself ends.
    #[serde(default)]
    pub keep_survivors: bool,
}

/// Limits of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecLimits {
    /// Wall time, milliseconds. At its end: SIGTERM, `grace_ms`, then everything is killed.
    pub wall_ms: u64,
    /// Between SIGTERM and SIGKILL, milliseconds.
    pub grace_ms: u64,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word used in SQL, JSON and object keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line of an execution's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command runs.
    Started {
        /// Its process id inside the container.
        pid: i32,
    },
    /// Bytes, `data` in standard base64.
    Output {
        /// Which stream.
        stream: Stream,
        /// Where in the stream the first byte stands.
        offset: u64,
        /// The bytes.
        data: String,
    },
    /// Bytes that were printed but are no longer held.
    Gap {
        /// Which stream.
        stream: Stream,
        /// The first byte that is lost.
        from: u64,
        /// The first byte after it that is held.
        to: u64,
    },
    /// The one last event.
    End(End),
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// In one word.
    pub outcome: Outcome,
    /// The exit code, when it exited.
    pub exit_code: Option<i32>,
    /// The signal, when one ended it.
    pub signal: Option<i32>,
    /// A sentence, where the outcome needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Wall time, milliseconds.
    pub wall_ms: u64,
    /// What it used.
    pub usage: Usage,
    /// Bytes printed to standard output.
    pub stdout_bytes: u64,
    /// Bytes printed to standard error.
    pub stderr_bytes: u64,
}

/// How an execution ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It exited by itself, with whatever code.
    Exited,
    /// A signal that was not ours ended it.
    Signalled,
    /// It ran past its wall time.
    Timeout,
    /// The kernel or the runner killed for memory.
    Oom,
    /// It made too many tasks.
    PidLimit,
    /// It wrote more than its disk may hold. Never the runner's word: whoever watches the disk asked for the kill.
    DiskLimit,
    /// The caller asked for it.
    Killed,
    /// It could not be started: no such file, no such user, …
    SpawnFailed,
    /// The proxy's connection broke, so everything was killed.
    ProxyLost,
}

/// What the cgroup (v1 or v2) counted; zero where it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of the container during this execution, milliseconds.
    pub cpu_ms: u64,
    /// Highest memory use of the container so far, bytes.
    pub memory_peak_bytes: u64,
    /// Kills for memory during this execution.
    pub oom_kills: u64,
}

/// `POST …/signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The signal's number.
    pub signal: i32,
}

/// The answer of `PUT /v1/files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Regular files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The answer of `GET /v1/disk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes that everything takes on disk that changed since the runner began; what is in memory does not count.
    pub bytes: u64,
    /// False where a part could not be looked at in time, or was hidden: there may be more.
    pub complete: bool,
}

/// `POST /v1/collect`: which files to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Absolute paths of files and directories. One that does not exist is listed in [`Manifest::missing`].
    pub paths: Vec<String>,
    /// Globs that are left out below a path, relative to it, by that path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exclude: BTreeMap<String, Vec<String>>,
    /// Stop with an error above this many bytes.
    pub max_bytes: u64,
    /// Stop with an error above this many entries.
    pub max_entries: u64,
}

/// What a collection holds; the first entry of its tar, named `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Every entry: absolute path inside the container, in order.
    pub entries: Vec<Entry>,
    /// Requested paths that do not exist.
    pub missing: Vec<String>,
}

/// One entry of a collection. Links and devices are listed as skipped, never followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute path inside the container.
    pub path: String,
    /// Bytes; 0 for directories.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file: its bytes follow in the tar.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, kept as a link.
    Symlink,
    /// Something else, not sent.
    Skipped,
}
