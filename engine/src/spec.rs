//! What an engine is asked for and what it answers.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use assay_core::{
    control::{init::InitConfig, proxy::ProxyAssignment, runner::RunnerConfig},
    digest::Digest,
    egress::Egress,
    id::{AttemptId, RunId, SandboxId},
    task::plan::Gpus,
};
use futures_util::future::BoxFuture;

use crate::{Error, ServiceSpec};

/// One sandbox, the same on every engine.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Its id.
    pub sandbox: SandboxId,
    /// The run it serves.
    pub run: RunId,
    /// The attempt it serves.
    pub attempt: AttemptId,
    /// The task's image.
    pub image: ImageRef,
    /// Limits of main.
    pub resources: Resources,
    /// GPUs of main.
    pub gpus: Gpus,
    /// The containers beside main.
    pub services: Vec<ServiceSpec>,
    /// The platform's own files.
    pub files: SandboxFiles,
    /// How long the containers may take to start.
    pub start_timeout: Duration,
}

/// What init, proxy and main find under `/assay`.
#[derive(Debug, Clone)]
pub struct SandboxFiles {
    /// For init.
    pub init: InitConfig,
    /// For the proxy.
    pub proxy: ProxyAssignment,
    /// For the runner.
    pub runner: RunnerConfig,
}

/// Limits of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in bytes; swap is never added.
    pub memory_bytes: u64,
    /// Tasks.
    pub pids: u64,
    /// Writable disk in bytes, where the storage driver can hold it. An engine that takes away what writes too much does
    /// so a good way above.
    pub disk_bytes: u64,
}

/// An image as the engine names it, by content (`sha256:…`) where it can be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef(pub String);

/// A sandbox that was created.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its name.
    pub name: SandboxRef,
    /// Where the runner's control answers.
    pub runner: SocketAddr,
    /// Where the proxy's control answers.
    pub proxy: SocketAddr,
    /// The image's own working directory.
    pub workdir: String,
    /// The image's own user; empty for root.
    pub user: String,
    /// The image's own environment.
    pub env: BTreeMap<String, String>,
}

/// How a sandbox is named towards an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SandboxRef {
    /// Its id.
    pub sandbox: SandboxId,
}

/// What shows from inside of a sandbox which phase the engine's own network wall is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon {
    /// Takes connections in this phase.
    pub open: SocketAddr,
    /// Takes connections in another phase, and cannot be reached in this one.
    pub closed: SocketAddr,
}

/// A sandbox found by its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: SandboxRef,
    /// The attempt that its labels name.
    pub attempt: AttemptId,
}

/// What the engine knows about a sandbox's end. Never the workload's own word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// How init ended, if it did.
    pub init: Option<Death>,
    /// How the proxy ended, if it did.
    pub proxy: Option<Death>,
    /// How main ended, if it did.
    pub main: Option<Death>,
    /// How the containers of services ended, by name, those that did. Their runners stay when a service ends by itself.
    pub services: BTreeMap<String, Death>,
    /// Why the engine itself took the sandbox away, if it did.
    pub lost: Option<Loss>,
    /// The containers do not exist (any more).
    pub gone: bool,
    /// Something has ended, and the engine may be about to tell why: a kubelet that takes a pod away says so only once
    /// all of its containers have ended.
    pub more_to_come: bool,
}

impl Evidence {
    /// Does it explain why a sandbox stopped answering? Otherwise ask again a little later.
    pub fn explains(&self) -> bool {
        !self.more_to_come && !self.is_whole()
    }

    /// Everything is there and nothing has ended.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

/// What main has written to its own file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskUse {
    /// Nobody has to look: the engine holds the limit, or main is gone.
    Held,
    /// Bytes.
    Bytes(u64),
    /// The engine looks by itself, but late, and then takes the whole sandbox away. Its runner can tell sooner.
    HeldLate,
}

/// A sandbox was taken away by what it runs on. Never the workload's fault alone, but for the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What happened.
    pub kind: LossKind,
    /// The engine's own words.
    pub message: String,
}

/// Why a sandbox was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// The node ran out of memory, disk or process numbers, or somebody asked for the eviction.
    Evicted,
    /// The sandbox wrote more than its own limit on disk.
    DiskFull,
    /// Something more important took its place.
    Preempted,
    /// The node does not answer any more, or was shut down.
    NodeLost,
    /// The node refused the pod after it had been placed there.
    Rejected,
    /// It outlived the deadline that the engine holds by itself.
    Deadline,
    /// Somebody removed it.
    Removed,
}

impl LossKind {
    /// What happened, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted from its node",
            Self::DiskFull => "evicted: it wrote more than its limit on disk",
            Self::Preempted => "preempted by something more important",
            Self::NodeLost => "lost with its node",
            Self::Rejected => "refused by its node",
            Self::Deadline => "ended at its last deadline",
            Self::Removed => "removed by somebody",
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The exit code.
    pub code: i64,
    /// Killed for memory, by the engine's word.
    pub oom: bool,
    /// The end of what it printed.
    pub log: String,
}

/// An image to be built.
#[derive(Debug, Clone)]
pub struct ImageSpec {
    /// Names the result: digest over environment files, base digests, build arguments and platform.
    pub key: Digest,
    /// The build context on disk.
    pub context: PathBuf,
    /// Where a builder on another machine gets the same context from.
    pub archive: Archive,
    /// The Dockerfile's path inside the context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// What the build may reach.
    pub network: BuildNetwork,
    /// How long it may take.
    pub timeout: Duration,
    /// Memory for build steps, bytes.
    pub memory_bytes: u64,
    /// What one build step may write, bytes.
    pub disk_bytes: u64,
}

/// The packed files that a build context is a folder of.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Where it is.
    pub source: Arc<dyn Source>,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// The context in it.
    pub folder: String,
}

/// Says where an archive is. Asked when a builder starts: what is told may hold for a while only, and builds wait for one another.
pub trait Source: fmt::Debug + Send + Sync {
    /// A URL that holds for long enough to fetch it.
    fn url(&self) -> BoxFuture<'_, Result<String, Error>>;
}

/// A URL that holds for ever.
impl Source for String {
    fn url(&self) -> BoxFuture<'_, Result<String, Error>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// What a build may reach.
#[derive(Debug, Clone)]
pub enum BuildNetwork {
    /// Nothing.
    None,
    /// The egress of phase `build`, through a proxy of its own.
    Through(Box<BuildProxy>),
}

/// A build sandbox's proxy.
#[derive(Debug, Clone)]
pub struct BuildProxy {
    /// What may be reached.
    pub egress: Egress,
    /// The proxy's assignment; its phase is `build`.
    pub files: SandboxFiles,
    /// The attempt it serves.
    pub attempt: AttemptId,
    /// The run it serves.
    pub run: RunId,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutcome {
    /// The image exists.
    Built {
        /// Its name.
        image: ImageRef,
        /// It existed before.
        cached: bool,
    },
    /// The Dockerfile failed: the task's fault.
    Failed {
        /// The last lines of the log.
        reason: String,
    },
    /// The build ran past its time: the task's fault.
    TimedOut,
}
