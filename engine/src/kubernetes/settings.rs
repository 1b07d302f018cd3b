//! What the engine is made from.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

pub use assay_core::control::build::Tool;
pub use assay_registry::Registries;
pub use k8s_openapi::api::core::v1::Toleration;

/// What the engine is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the cluster is reached.
    pub access: Access,
    /// The namespace of the sandboxes.
    pub namespace: String,
    /// The installation's id. Only objects that carry it as a label are ever seen or touched.
    pub owner: String,
    /// Our own images.
    pub images: Images,
    /// Where images are looked up instead of at their own hosts.
    pub registries: Registries,
    /// How runner and proxy control are reached.
    pub reach: Reach,
    /// What proves that the network policies follow a sandbox's phase.
    pub beacon: BeaconAt,
    /// Sandboxes that may wait for a node at the same time.
    pub most_waiting: u32,
    /// What this cluster wants of our pods.
    pub pods: PodOptions,
    /// How images are built; where this is missing, tasks have to name images.
    pub builds: Option<Builds>,
}

/// How images are built.
#[derive(Debug, Clone)]
pub struct Builds {
    /// The namespace of the builders.
    pub namespace: String,
    /// Our image that fetches, watches and pushes.
    pub program: String,
    /// Who makes images out of Dockerfiles.
    pub tool: Tool,
    /// The image that it is in.
    pub tool_image: String,
    /// Where built images go, as nodes name it: `registry.example/assay/tasks`.
    pub repository: String,
    /// The same repository as builders reach it; large layers had better not go through a load balancer.
    pub push_repository: String,
    /// A Secret of that namespace (`kubernetes.io/dockerconfigjson`) that may write there.
    pub push_secret: Option<String>,
    /// One with which base images may be read.
    pub pull_secret: Option<String>,
    /// A build that runs out of memory is tried again with twice as much, up to this, bytes.
    pub most_memory_bytes: u64,
    /// An image may have so many bytes, as it is stored; so may the base images of a build.
    pub most_image_bytes: u64,
    /// Builds that one process waits for at the same time. The others wait in the order in which they came.
    pub most_at_once: u32,
}

/// How the cluster is reached: from inside of it, else by a file, else by `KUBECONFIG`, else by `~/.kube/config`.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// This file and nothing else.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the file other than its current one.
    pub context: Option<String>,
}

/// Our own images.
#[derive(Debug, Clone)]
pub struct Images {
    /// Packet rules, with the runner beside them.
    pub init: String,
    /// The egress proxy.
    pub proxy: String,
}

/// How runner and proxy control are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// The pod's own address where it answers, else port-forward.
    #[default]
    Probe,
    /// The pod's own address.
    Direct,
    /// Through the API server.
    Forward,
}

/// Where the beacon is, which network policies open to sandboxes by phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeaconAt {
    /// A Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An address.
    Address(IpAddr),
    /// There is none: a change of phase is believed and not proven.
    Nowhere,
}

impl Default for BeaconAt {
    /// As the manifests have it.
    fn default() -> Self {
        Self::Service {
            namespace: "assay-system".to_owned(),
            name: "beacon".to_owned(),
        }
    }
}

impl std::str::FromStr for BeaconAt {
    type Err = String;

    /// `NAMESPACE/SERVICE`, an address, or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Nowhere);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} is no beacon; want NAMESPACE/SERVICE, an address, or none"))?;
        Ok(Self::Service {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// What a cluster wants of our pods.
#[derive(Debug, Clone)]
pub struct PodOptions {
    /// gVisor, Kata.
    pub runtime_class: Option<String>,
    /// A user namespace for the whole pod.
    pub user_namespace: bool,
    /// Which nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Which taints are no obstacle.
    pub tolerations: Vec<Toleration>,
    /// The proxy starts before main, as an init container that stays. Nothing is gained by it, but a second of start is lost.
    pub native_sidecar: bool,
    /// How important a sandbox is.
    pub priority_class: Option<String>,
    /// Secrets with which nodes pull.
    pub pull_secrets: Vec<String>,
    /// CPU that is reserved, in percent of main's limit. Memory and disk are always reserved in full.
    pub cpu_request_percent: u64,
    /// What main gets of a node's devices, as the cluster names them: `nvidia.com/gpu`, 1.
    pub devices: BTreeMap<String, u64>,
    /// What GPUs are called that tasks ask for; without it such tasks are refused.
    pub gpus: Option<GpuNames>,
    /// The cluster ends a sandbox by itself after this.
    pub lifetime: Duration,
}

/// What a cluster calls its GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuNames {
    /// The extended resource: `nvidia.com/gpu`.
    pub resource: String,
    /// The label of nodes whose value is the type, as tasks write it; without it no type can be asked for.
    pub type_label: Option<String>,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            runtime_class: None,
            user_namespace: false,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            native_sidecar: false,
            priority_class: None,
            pull_secrets: Vec::new(),
            cpu_request_percent: 100,
            devices: BTreeMap::new(),
            gpus: None,
            lifetime: Duration::from_hours(24),
        }
    }
}
