//! What an operator wants to know of a cluster before runs are sent there. These questions need an operator's rights, not those
//! of a screener.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use assay_registry::{Client as RegistryClient, Reference, Registries};
use http::Request;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node, Secret, Service},
};
use kube::{Api, Client, api::ListParams};
use serde_json::Value;

use super::{
    Access, Kubernetes, beacon, connect,
    fault::{fault, is_missing},
    image::{self, Lookup},
    living, within,
};
use crate::{Error, SandboxRef};

/// A node that sandboxes may come to, and how many processes it lets one pod have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLimit {
    /// Its name.
    pub node: String,
    /// The kubelet's `podPidsLimit`, above zero; `None` where it has none. The words of a refusal where it was not told.
    pub pod_pids: Result<Option<i64>, String>,
}

/// A cluster, as who looks after it asks.
#[derive(Clone)]
pub struct Inspector {
    client: Client,
}

/// The time that a kubelet wrote down last, every ten seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClock {
    /// The node's name.
    pub node: String,
    /// By its own clock.
    pub renewed: Option<k8s_openapi::jiff::Timestamp>,
}

/// A scaler, and whether it has its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaler {
    /// Its name.
    pub name: String,
    /// Ready; else why not.
    pub ready: Result<(), String>,
}

impl Inspector {
    /// With the rights of a kubeconfig, or of the pod that this runs in.
    ///
    /// # Errors
    /// There is no kubeconfig, or it cannot be used.
    pub async fn connect(access: &Access) -> Result<Self, Error> {
        Ok(Self {
            client: connect::client(access).await?,
        })
    }

    /// The version of the API server.
    ///
    /// # Errors
    /// It does not answer, or does not know us.
    pub async fn version(&self) -> Result<String, Error> {
        let asked = async {
            let version = self.client.apiserver_version().await;
            version.map_err(|error| fault("ask the API server", &error))
        };
        Ok(within("ask the API server", PATIENCE, asked).await?.git_version)
    }

    /// A `ConfigMap`; empty where there is none of that name.
    ///
    /// # Errors
    /// It may not be read.
    pub async fn settings(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = maps.get_opt(name).await;
        let found = found.map_err(|error| fault("read a ConfigMap", &error))?;
        Ok(found.and_then(|map| map.data).unwrap_or_default())
    }

    /// Where pods would find the API server.
    ///
    /// # Errors
    /// Its Service cannot be read or has no address.
    pub async fn api_server(&self) -> Result<SocketAddr, Error> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), "default");
        let found = services.get("kubernetes").await;
        let found = found.map_err(|error| fault("find the API server", &error))?;
        let spec = found.spec.unwrap_or_default();
        let port = spec.ports.iter().flatten().next().map(|port| port.port);
        let port = port.and_then(|port| u16::try_from(port).ok());
        let address = spec.cluster_ip.and_then(|text| text.parse::<IpAddr>().ok());
        address
            .zip(port)
            .map(SocketAddr::from)
            .ok_or_else(|| Error::Refused {
                operation: "find the API server",
                message: "Service default/kubernetes has no address".to_owned(),
            })
    }

    /// What each node that carries these labels lets a pod have.
    ///
    /// # Errors
    /// The nodes cannot be listed.
    pub async fn pod_pids(&self, selector: &BTreeMap<String, String>) -> Result<Vec<NodeLimit>, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let labels: Vec<_> = selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let wanted = ListParams::default().labels(&labels.join(","));
        let listed = nodes.list_metadata(&wanted).await;
        let listed = listed.map_err(|error| fault("list the nodes", &error))?;
        let mut limits = Vec::new();
        for node in listed.items {
            let node = node.metadata.name.unwrap_or_default();
            let pod_pids = self.pod_pids_of(&node).await.map_err(|error| error.to_string());
            limits.push(NodeLimit { node, pod_pids });
        }
        Ok(limits)
    }

    async fn pod_pids_of(&self, node: &str) -> Result<Option<i64>, Error> {
        let config = self.get(&format!("/api/v1/nodes/{node}/proxy/configz")).await?;
        let limit = config
            .pointer("/kubeletconfig/podPidsLimit")
            .and_then(Value::as_i64);
        Ok(limit.filter(|limit| *limit > 0))
    }

    /// The scalers of the screeners. `None` where the cluster does not know KEDA.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn scalers(&self, namespace: &str) -> Result<Option<Vec<Scaler>>, Error> {
        let path = format!("/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects");
        let listed = match self.ask(&path).await {
            Err(error) if is_missing(&error) => return Ok(None),
            other => other.map_err(|error| fault("list the scalers", &error))?,
        };
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        Ok(Some(items.iter().map(scaler).collect()))
    }

    /// The credentials in a Secret (`kubernetes.io/dockerconfigjson`), by the host of their registry.
    ///
    /// # Errors
    /// There is no such Secret, or it may not be read.
    pub async fn logins(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, (String, assay_core::upstream::Secret)>, Error> {
        let refused = |message: String| Error::Refused {
            operation: "read a Secret",
            message,
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = secrets.get(name).await;
        let found = found.map_err(|error| fault("read a Secret", &error))?;
        let file = found.data.and_then(|mut data| data.remove(".dockerconfigjson"));
        let file = file.ok_or_else(|| refused(format!("{namespace}/{name} has no .dockerconfigjson")))?;
        assay_registry::logins(&String::from_utf8_lossy(&file.0)).map_err(|error| refused(error.to_string()))
    }

    /// What time each node last wrote into its lease.
    ///
    /// # Errors
    /// The leases cannot be listed.
    pub async fn node_clocks(&self) -> Result<Vec<NodeClock>, Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let listed = leases.list(&ListParams::default()).await;
        let listed = listed.map_err(|error| fault("list the leases of nodes", &error))?;
        let clock = |lease: Lease| NodeClock {
            node: lease.metadata.name.unwrap_or_default(),
            renewed: lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0),
        };
        Ok(listed.items.into_iter().map(clock).collect())
    }

    async fn get(&self, path: &str) -> Result<Value, Error> {
        let asked = async {
            self.ask(path)
                .await
                .map_err(|error| fault("ask the API server", &error))
        };
        within("ask the API server", PATIENCE, asked).await
    }

    async fn ask(&self, path: &str) -> Result<Value, kube::Error> {
        let request = Request::get(path).body(Vec::new());
        self.client
            .request(request.map_err(kube::Error::HttpError)?)
            .await
    }
}

/// The name of an image with its digest, as its registry tells.
///
/// # Errors
/// [`Error::NoImage`] where there is none; a transient one where the registry does not answer.
pub async fn pinned(registries: &Registries, image: &str) -> Result<String, Error> {
    Ok(Lookup::new(registries.clone()).find(image).await?.pinned)
}

/// Begins an upload into a repository and takes it back.
///
/// # Errors
/// The registry does not allow it, or does not answer.
pub async fn may_push(registries: Registries, repository: &str) -> Result<(), Error> {
    let reference = Reference::parse(repository).ok_or_else(|| Error::NoImage(repository.to_owned()))?;
    let client = RegistryClient::new(registries);
    let begun = client.repository(&reference).may_push().await;
    begun.map_err(image::fault)
}

impl Kubernetes {
    /// Every address of a sandbox's pod.
    ///
    /// # Errors
    /// The cluster does not tell.
    pub async fn pod_addresses(&self, name: SandboxRef) -> Result<Vec<IpAddr>, Error> {
        let pod = living::own_pod(self, name).await?;
        let addresses = pod.and_then(|pod| pod.status?.pod_ips).unwrap_or_default();
        Ok(addresses.iter().filter_map(|one| one.ip.parse().ok()).collect())
    }

    /// The beacon's IPv6 address, where its Service has one.
    ///
    /// # Errors
    /// The Service cannot be read.
    pub async fn beacon_v6(&self) -> Result<Option<IpAddr>, Error> {
        beacon::v6(&self.client, &self.beacon_at).await
    }
}

fn scaler(object: &Value) -> Scaler {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    let ready = match ready {
        Some(condition) if condition["status"] == "True" => Ok(()),
        Some(condition) => Err(condition["message"].as_str().unwrap_or_default().to_owned()),
        None => Err("KEDA has not looked at it yet".to_owned()),
    };
    // What it asks may fail while the object itself is fine.
    let fallback = conditions
        .iter()
        .find(|one| one["type"] == "Fallback" && one["status"] == "True");
    let ready = match fallback {
        Some(condition) => Err(condition["message"].as_str().unwrap_or_default().to_owned()),
        None => ready,
    };
    Scaler { name, ready }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
