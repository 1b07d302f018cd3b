//! Sandboxes on a container engine: Docker or Podman, through the Docker API on a unix socket.
//!
//! A sandbox is three containers in one network namespace, and those of a task's services. `init` holds the namespace,
//! writes the packet rules and proves them; then all others start inside of it. Runner and proxy control are reached by ports published on
//! 127.0.0.1. The platform's files lie in an anonymous volume `/assay` of each container and go with it.

mod archive;
mod build;
mod death;
mod disk;
mod fault;
mod images;
mod inspect;
mod labels;
mod living;
mod place;
mod pod;
mod remove;
mod report;
mod start;
mod volumes;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Duration};

use assay_core::phase::EgressPhase;
use bollard::{ClientVersion, Docker};
use bytes::Bytes;
use tokio::sync::mpsc;

use self::{build::Flights, fault::fault, images::OwnImages, labels::Owner};
use crate::{
    Beacon, BuildOutcome, DiskUse, Engine, Error, Evidence, ImageSpec, Listed, Resources, Sandbox,
    SandboxRef, SandboxSpec, deadline::within,
};

/// Longest wait for one ordinary answer of the engine.
const CALL: Duration = Duration::from_mins(1);
/// Longest wait for a sign of life.
const PING: Duration = Duration::from_secs(5);
/// The API of Docker 20.10 and Podman 4; a newer engine is met on its own terms by negotiation.
const OLDEST_API: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};

/// What the engine is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The engine's unix socket.
    pub socket: PathBuf,
    /// The installation's id. Only containers that carry it are ever seen or touched.
    pub owner: String,
    /// Our own static programs.
    pub binaries: Binaries,
}

/// Where our static programs lie on this host.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// PID 1 of main.
    pub runner: PathBuf,
    /// Packet rules.
    pub init: PathBuf,
    /// The egress proxy.
    pub proxy: PathBuf,
}

impl Binaries {
    /// The three programs in one folder, under the names that cargo gives them.
    pub fn in_folder(folder: &std::path::Path) -> Self {
        Self {
            runner: folder.join("assay-runner"),
            init: folder.join("assay-init-iptables"),
            proxy: folder.join("assay-proxy"),
        }
    }
}

/// Docker or Podman.
#[derive(Debug)]
pub struct Containers {
    docker: Docker,
    owner: Owner,
    runner: Bytes,
    images: OwnImages,
    /// Cleared when the storage driver has refused a limit on disk once.
    disk_limits: AtomicBool,
    flights: Flights,
    /// The engine is Podman, whose builder is told about networks in its own way.
    podman: bool,
}

impl Containers {
    /// Connects, and makes our own two images where they are missing.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let socket = settings.socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&socket, CALL.as_secs(), &OLDEST_API)
            .map_err(|error| fault("connect", &error))?;
        let docker = within("connect", CALL, async {
            docker
                .negotiate_version()
                .await
                .map_err(|error| fault("connect", &error))
        })
        .await?;
        let podman = within("connect", CALL, is_podman(&docker)).await?;
        let runner = images::read("runner", &settings.binaries.runner).await?;
        let images = OwnImages::ensure(&docker, &settings.binaries).await?;
        Ok(Self {
            docker,
            owner: Owner(settings.owner.clone()),
            runner,
            images,
            disk_limits: AtomicBool::new(true),
            flights: Flights::default(),
            podman,
        })
    }
}

impl Engine for Containers {
    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, Error> {
        let work = Box::pin(start::sandbox(self, spec));
        within("create", spec.start_timeout, work).await
    }

    async fn find(&self, sandbox: &SandboxRef) -> Result<Option<Sandbox>, Error> {
        within("find", CALL, Box::pin(living::find(self, *sandbox))).await
    }

    async fn set_phase(&self, _sandbox: &SandboxRef, _phase: EgressPhase) -> Result<Option<Beacon>, Error> {
        Ok(None)
    }

    async fn evidence(&self, sandbox: &SandboxRef) -> Result<Evidence, Error> {
        within("evidence", CALL, death::evidence(self, *sandbox)).await
    }

    async fn disk_used(&self, sandbox: &SandboxRef) -> Result<DiskUse, Error> {
        within("measure disk", CALL, disk::used(self, *sandbox)).await
    }

    async fn stop_proxy(&self, sandbox: &SandboxRef) -> Result<(), Error> {
        within("stop_proxy", CALL, remove::stop_proxy(self, *sandbox)).await
    }

    async fn destroy(&self, sandbox: &SandboxRef) -> Result<(), Error> {
        remove::destroy(self, *sandbox).await
    }

    /// As many as it has slots: what a machine holds is its operator's word.
    async fn room(&self, _slot: &Resources) -> Result<u32, Error> {
        let asked = async { self.docker.ping().await.map_err(|error| fault("ping", &error)) };
        within("ping", PING, asked).await?;
        Ok(u32::MAX)
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        within("list", CALL, living::list(self)).await
    }

    async fn build(&self, spec: &ImageSpec, log: mpsc::Sender<Bytes>) -> Result<BuildOutcome, Error> {
        Box::pin(build::image(self, spec, log)).await
    }
}

async fn is_podman(docker: &Docker) -> Result<bool, Error> {
    let version = docker.version().await.map_err(|error| fault("connect", &error))?;
    let mut parts = version.components.unwrap_or_default().into_iter();
    Ok(parts.any(|part| part.name.starts_with("Podman")))
}
