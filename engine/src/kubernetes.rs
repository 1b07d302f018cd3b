//! Sandboxes on a Kubernetes cluster: one pod each, plain API objects, no exec.
//!
//! A pod has one init container, which puts runner and files in their places and writes and proves the packet rules,
//! then proxy and main side by side; where the operator wants so, the proxy is a native sidecar. Files come by a Secret that only init mounts and that is deleted once they are in
//! their places. Everything after that goes through the runner's and the proxy's own control interfaces.

mod again;
mod beacon;
mod build;
mod connect;
mod events;
mod evidence;
mod fault;
mod files;
mod gate;
mod gpu;
mod image;
mod inspect;
mod kept;
mod labels;
mod living;
mod made;
mod pod;
mod quantity;
mod reach;
mod remove;
mod room;
mod service;
mod settings;
mod start;
mod status;
mod watch;

use std::{
    net::IpAddr,
    sync::{OnceLock, atomic::AtomicBool},
    time::Duration,
};

use assay_core::{phase::EgressPhase, task::plan::GpuSupport};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

pub use assay_registry::logins;

pub use self::settings::{
    Access, BeaconAt, Builds, GpuNames, Images, PodOptions, Reach, Registries, Settings, Toleration, Tool,
};
use self::{
    fault::fault,
    image::Lookup,
    labels::Owner,
    made::Made,
    reach::Ways,
    room::{Crowd, Queue},
};
pub use self::{
    gate::Gate,
    inspect::{Inspector, NodeClock, NodeLimit, Scaler, may_push, pinned},
};
use crate::{
    Beacon, BuildOutcome, DiskUse, Engine, Error, Evidence, ImageSpec, Listed, Resources, Sandbox,
    SandboxRef, SandboxSpec, deadline::within,
};

/// Longest wait for one ordinary answer of the cluster.
const CALL: Duration = Duration::from_mins(1);
/// Longest wait for an answer before work is taken.
const ROOM: Duration = Duration::from_secs(5);
/// Beside the time that a sandbox has to start: for saying why it did not.
const SLACK: Duration = Duration::from_secs(15);

/// A cluster.
pub struct Kubernetes {
    client: Client,
    namespace: String,
    pods: Api<Pod>,
    secrets: Api<Secret>,
    owner: Owner,
    images: Images,
    options: PodOptions,
    lookup: Lookup,
    ways: Ways,
    made: Made,
    /// Where the beacon answers; `None` where flips are not proven.
    beacon: Option<IpAddr>,
    beacon_at: BeaconAt,
    queue: Queue,
    /// The API server did not answer when it was asked last. Watches do not show it.
    silent: AtomicBool,
    /// Since room was first asked for.
    crowd: OnceLock<Crowd>,
    builds: Option<Builds>,
    /// A place for each build that may be waited for at the same time. Fair: who came first builds first.
    building: Semaphore,
    mirrors: std::collections::BTreeMap<String, String>,
}

impl Kubernetes {
    /// Connects, and sees that the namespace is there.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        if !labels::may_be_label(&settings.owner) {
            return Err(Error::Refused {
                operation: "connect to the cluster",
                message: format!(
                    "{:?} cannot be a label, so it is no id of an installation",
                    settings.owner
                ),
            });
        }
        let client = connect::client(&settings.access).await?;
        let beacon = within("find the beacon", CALL, beacon::find(&client, &settings.beacon)).await?;
        let namespace = settings.namespace;
        let most_builds = settings.builds.as_ref().map_or(1, |builds| builds.most_at_once);
        let engine = Self {
            pods: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            owner: Owner(settings.owner),
            images: settings.images,
            builds: settings.builds,
            building: Semaphore::new(usize::try_from(most_builds).unwrap_or(Semaphore::MAX_PERMITS)),
            mirrors: settings.registries.mirrors.clone(),
            options: settings.pods,
            lookup: Lookup::new(settings.registries),
            ways: Ways::new(settings.reach),
            made: Made::default(),
            silent: AtomicBool::new(false),
            crowd: OnceLock::new(),
            beacon,
            beacon_at: settings.beacon,
            queue: Queue::new(settings.most_waiting),
        };
        within("connect to the cluster", CALL, living::list(&engine)).await?;
        Ok(engine)
    }
}

impl Engine for Kubernetes {
    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, Error> {
        let limit = spec.start_timeout + SLACK;
        within("create", limit, Box::pin(start::sandbox(self, spec))).await
    }

    async fn find(&self, sandbox: &SandboxRef) -> Result<Option<Sandbox>, Error> {
        within("find", CALL, living::find(self, *sandbox)).await
    }

    async fn set_phase(&self, sandbox: &SandboxRef, phase: EgressPhase) -> Result<Option<Beacon>, Error> {
        let (key, value) = labels::phase(phase);
        let patch = json!({ "metadata": { "labels": { key: value } } });
        let name = labels::name(sandbox.sandbox);
        let patched = async {
            let (how, patch) = (PatchParams::default(), Patch::Merge(&patch));
            let done = again::again(|| self.pods.patch_metadata(&name, &how, &patch)).await;
            done.map_err(|error| fault("set the phase", &error))
        };
        within("set the phase", CALL, patched).await?;
        Ok(self.beacon.and_then(|address| beacon::of(address, phase)))
    }

    async fn evidence(&self, sandbox: &SandboxRef) -> Result<Evidence, Error> {
        within("evidence", CALL, living::evidence_of(self, *sandbox)).await
    }

    /// The kubelet evicts, up to two minutes after too much was written.
    async fn disk_used(&self, _sandbox: &SandboxRef) -> Result<DiskUse, Error> {
        Ok(DiskUse::HeldLate)
    }

    async fn stop_proxy(&self, sandbox: &SandboxRef) -> Result<(), Error> {
        within("stop_proxy", CALL, remove::stop(self, *sandbox)).await
    }

    async fn destroy(&self, sandbox: &SandboxRef) -> Result<(), Error> {
        remove::destroy(self, *sandbox).await
    }

    async fn room(&self, slot: &Resources) -> Result<u32, Error> {
        within("look for room", ROOM, room::room(self, slot)).await
    }

    fn gpus(&self) -> GpuSupport {
        match &self.options.gpus {
            None => GpuSupport::None,
            Some(names) if names.type_label.is_none() => GpuSupport::Counted,
            Some(_) => GpuSupport::Typed,
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        within("list", CALL, living::list(self)).await
    }

    async fn build(&self, spec: &ImageSpec, log: mpsc::Sender<Bytes>) -> Result<BuildOutcome, Error> {
        Box::pin(build::image(self, spec, log)).await
    }
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes")
            .field("namespace", &self.namespace)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
