//! A Kubernetes cluster that is there already (tests/cluster), as the ground of an installation.
//!
//! What an operator of a cluster brings, the suite brings: a resolver with the labels of the cluster's own DNS, and a
//! network policy that lets sandboxes in phase `agent` come to a model service in the operator's own network.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use assay_core::digest::hex;
use serde_json::{Value, json};

use super::{Ground, Installation, Part, Programs};
use crate::{
    builds::left,
    kubectl::{self, Kubectl},
};

/// The cluster. Dropping it removes what the suite brought.
#[derive(Debug)]
pub struct Cluster {
    /// Its client, with every right.
    pub admin: Kubectl,
    screener: String,
    registry: String,
    resolver: IpAddr,
    brought: Brought,
    more: Vec<String>,
}

/// The suite's own objects.
#[derive(Debug)]
struct Brought {
    admin: Kubectl,
    suffix: String,
}

impl Cluster {
    /// The cluster that the environment names, with a resolver that knows `names`. `None`, with the reason said, where
    /// there is none, or one whose network enforces no policies.
    pub fn from_env(names: &[(&str, IpAddr)]) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
        let (Some(screener), Some(registry)) =
            (variable("ASSAY_TEST_KUBERNETES"), variable("ASSAY_TEST_REGISTRY"))
        else {
            eprintln!("skipped: ASSAY_TEST_KUBERNETES or ASSAY_TEST_REGISTRY is not set (tests/cluster)");
            return Ok(None);
        };
        if variable("ASSAY_TEST_CNI").is_none_or(|name| name != "cilium") {
            eprintln!("skipped: ASSAY_TEST_KUBERNETES is a cluster that enforces no network policies");
            return Ok(None);
        }
        let Some(admin) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
            return Ok(None);
        };
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        let brought = Brought {
            admin: admin.clone(),
            suffix: hex(&random),
        };
        let resolver = brought.resolver(names)?;
        Ok(Some(Self {
            admin,
            screener,
            registry,
            resolver,
            brought,
            more: Vec::new(),
        }))
    }

    /// Screeners that are started later reach the cluster by this file.
    pub fn reach_by(&mut self, kubeconfig: &std::path::Path) {
        self.screener = kubeconfig.display().to_string();
    }

    /// Screeners that are started later are told this too.
    pub fn tell_more(&mut self, words: &[&str]) {
        self.more.extend(words.iter().map(|&word| word.to_owned()));
    }

    /// The kubeconfig of a screener.
    pub fn screener(&self) -> &str {
        &self.screener
    }

    /// The registry as names of images have it, `host:port`.
    pub fn registry(&self) -> &str {
        self.registry.trim_start_matches("http://")
    }

    /// The objects of a run in the namespace of the sandboxes, as `kind name`. Jobs and ConfigMaps are never made there.
    pub fn objects_of(&self, run: impl std::fmt::Display) -> anyhow::Result<Vec<String>> {
        let label = format!("assay.dev/run={run}");
        let columns = "custom-columns=KIND:.kind,NAME:.metadata.name";
        let words = [
            "get",
            "pods,secrets,jobs,configmaps",
            "-n",
            NAMESPACE,
            "-l",
            &label,
            "--no-headers",
            "-o",
            columns,
        ];
        let found = self.admin.ok(&words, None)?;
        Ok(found
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect())
    }

    /// The pod of a run, as the API server has it.
    pub fn pod_of(&self, run: impl std::fmt::Display) -> anyhow::Result<Option<Value>> {
        let label = format!("assay.dev/run={run}");
        let found = self.admin.ok(
            &["get", "pods", "-n", NAMESPACE, "-l", &label, "-o", "json"],
            None,
        )?;
        let found: Value = serde_json::from_str(&found)?;
        Ok(found["items"].as_array().and_then(|items| items.first()).cloned())
    }

    /// Waits until nothing of a run is left, and nothing but Jobs that are over of the builds of its installation: an image
    /// is built for all runs that want it, so its objects name none.
    pub async fn swept(&self, run: impl std::fmt::Display, installation: &str) -> anyhow::Result<()> {
        left::gone(format!("run {run}"), || self.objects_of(&run), SWEEP).await?;
        left::swept(&self.admin, installation).await
    }
}

impl Installation<Cluster> {
    /// What the installation's objects carry as the label of their owner.
    pub async fn id(&self) -> anyhow::Result<String> {
        let found = self.query("SELECT id FROM installation").await?;
        found.into_iter().next().context("the installation has no id")
    }

    /// [`Cluster::swept`] of a run of this installation.
    pub async fn swept(&self, run: impl std::fmt::Display) -> anyhow::Result<()> {
        self.ground.swept(run, &self.id().await?).await
    }
}

impl Ground for Cluster {
    /// The node's address: the pods of the test cluster reach this machine by it, where a policy lets them.
    fn gateway(&self) -> &str {
        let host = self.registry();
        host.split_once(':').map_or(host, |(host, _)| host)
    }

    fn let_to_model(&self, port: u16) -> anyhow::Result<()> {
        self.brought.policy(self.gateway(), port)
    }

    fn tell(&self, screener: &mut Part, _programs: &Programs) {
        let (registry, host) = (&self.registry, self.registry());
        let mirrors = format!("docker.io={registry},{host}={registry}");
        screener
            .env("ASSAY_ENGINE", "kubernetes")
            .env("ASSAY_INIT_IMAGE", format!("{host}/assay/init-iptables:test"))
            .env("ASSAY_PROXY_IMAGE", format!("{host}/assay/proxy:test"))
            .env("ASSAY_MIRRORS", mirrors)
            .env("ASSAY_RESOLVERS", SocketAddr::new(self.resolver, 53).to_string())
            .env("ASSAY_CPU_REQUEST_PERCENT", "5")
            .args(["--kubeconfig", &self.screener]);
        for word in &self.more {
            screener.args([word]);
        }
    }
}

impl Brought {
    fn resolver_name(&self) -> String {
        format!("names-{}", self.suffix)
    }

    fn policy_name(&self) -> String {
        format!("model-{}", self.suffix)
    }

    /// A pod that policies take for the cluster's DNS; its address.
    fn resolver(&self, names: &[(&str, IpAddr)]) -> anyhow::Result<IpAddr> {
        let zone: Value = names
            .iter()
            .map(|(name, ip)| ((*name).to_owned(), json!(ip)))
            .collect();
        let name = self.resolver_name();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main", "image": "python:3.12-slim",
                    "command": ["python3", "-c", RESOLVER, zone.to_string()],
                    "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/listens"]}, "periodSeconds": 1},
                }],
            },
        });
        self.admin.ok(&["create", "-f", "-"], Some(&pod))?;
        let ready = [
            "wait",
            "--for=condition=Ready",
            "pod",
            &name,
            "-n",
            "kube-system",
            "--timeout=300s",
        ];
        self.admin.ok(&ready, None)?;
        let address = [
            "get",
            "pod",
            &name,
            "-n",
            "kube-system",
            "-o",
            "jsonpath={.status.podIP}",
        ];
        self.admin
            .ok(&address, None)?
            .parse()
            .context("the resolver's address")
    }

    fn policy(&self, host: &str, port: u16) -> anyhow::Result<()> {
        let labels = json!({"assay.dev/role": "sandbox", "assay.dev/phase": "agent"});
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": self.policy_name(), "namespace": NAMESPACE},
            "spec": {
                "podSelector": {"matchLabels": labels}, "policyTypes": ["Egress"],
                "egress": [{
                    "to": [{"ipBlock": {"cidr": format!("{host}/32")}}],
                    "ports": [{"protocol": "TCP", "port": port}],
                }],
            },
        });
        self.admin.ok(&["create", "-f", "-"], Some(&policy)).map(|_| ())
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        let (resolver, policy) = (self.resolver_name(), self.policy_name());
        let here = ["--ignore-not-found", "--wait=false"];
        self.admin.run(
            &[&["delete", "pod", &resolver, "-n", "kube-system"][..], &here].concat(),
            None,
        );
        self.admin.run(
            &[&["delete", "networkpolicy", &policy, "-n", NAMESPACE][..], &here].concat(),
            None,
        );
    }
}

/// The namespace of the sandboxes, as the manifests have it.
const NAMESPACE: &str = "assay-sandboxes";
/// Removal is the screener's, or the reconciler's of the suite after 5 s; a node that is busy takes its time.
const SWEEP: Duration = Duration::from_mins(3);
/// A DNS server that answers for the names of its argument and knows no others.
const RESOLVER: &str = r#"
import json, socket, struct, sys
zone = json.loads(sys.argv[1])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
open("/tmp/listens", "w").close()
while True:
    query, client = server.recvfrom(4096)
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += query[at] + 1
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    address = zone.get(".".join(labels))
    answer = b""
    if address and kind == 1:
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 30, 4) + socket.inet_aton(address)
    flags = 0x8180 if address else 0x8183
    head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
    server.sendto(head + query[12:at + 5] + answer, client)
"#;
