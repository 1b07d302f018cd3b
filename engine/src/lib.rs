//! Engines that run sandboxes and build images behind one trait.
//!
//! Verbs, not the nouns of one system: what one engine does, all do, and one contract suite says so. What happens
//! inside a sandbox (phases, files, output, money) is said to its runner and proxy and is the same for every engine.

mod base;
pub mod containers;
mod deadline;
mod error;
pub mod fake;
pub mod kubernetes;
mod labels;
mod service;
mod shape;
mod spec;
pub mod trial;

use std::future::Future;

use assay_core::task::plan::GpuSupport;
pub use base::of as bases;
pub use error::Error;
pub use service::ServiceSpec;
pub use spec::{
    Archive, Beacon, BuildNetwork, BuildOutcome, BuildProxy, Death, DiskUse, Evidence, ImageRef, ImageSpec,
    Listed, Loss, LossKind, Resources, Sandbox, SandboxFiles, SandboxRef, SandboxSpec, Source,
};

/// Where sandboxes run.
///
/// Every method is idempotent. Dropping a future stops the waiting, never a sandbox: only [`Engine::destroy`] ends one.
pub trait Engine: Send + Sync {
    /// Creates and starts a sandbox: init, proxy, main and the services beside it. A sandbox of that id that exists already is returned as it is.
    fn create(&self, spec: &SandboxSpec) -> impl Future<Output = Result<Sandbox, Error>> + Send;

    /// Finds a living sandbox again, after a restart of the caller; `None` when it is gone.
    fn find(&self, sandbox: &SandboxRef) -> impl Future<Output = Result<Option<Sandbox>, Error>> + Send;

    /// Tells the engine's own network wall about the phase; how to see from inside that it is in force. `None` where there
    /// is no wall, or where it is the same in every phase.
    fn set_phase(
        &self,
        sandbox: &SandboxRef,
        phase: assay_core::phase::EgressPhase,
    ) -> impl Future<Output = Result<Option<Beacon>, Error>> + Send;

    /// What the engine knows about a sandbox's end; asked before it is destroyed.
    fn evidence(&self, sandbox: &SandboxRef) -> impl Future<Output = Result<Evidence, Error>> + Send;

    /// What main has written to its own file system, as far as the engine can see.
    fn disk_used(&self, sandbox: &SandboxRef) -> impl Future<Output = Result<DiskUse, Error>> + Send;

    /// Asks the proxy to end: SIGTERM with the grace that lets it hand out its ledger.
    fn stop_proxy(&self, sandbox: &SandboxRef) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes every trace of a sandbox. One that does not exist is no error.
    fn destroy(&self, sandbox: &SandboxRef) -> impl Future<Output = Result<(), Error>> + Send;

    /// How many more sandboxes of that size it has room for, as far as it can tell. Asked before work is taken: an engine
    /// that is away would lose every attempt at once.
    fn room(&self, slot: &Resources) -> impl Future<Output = Result<u32, Error>> + Send;

    /// What it does for tasks that ask for GPUs. Asked before anything is made for a run.
    fn gpus(&self) -> GpuSupport {
        GpuSupport::None
    }

    /// Every sandbox of this installation, and of no other.
    fn list(&self) -> impl Future<Output = Result<Vec<Listed>, Error>> + Send;

    /// Builds an image, or finds it by its key. One build per key at a time; log lines go to `log` as they come.
    fn build(
        &self,
        spec: &ImageSpec,
        log: tokio::sync::mpsc::Sender<bytes::Bytes>,
    ) -> impl Future<Output = Result<BuildOutcome, Error>> + Send;
}
