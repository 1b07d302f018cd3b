//! A namespace of a test's own, with as many walls as the test wants, and engines whose sandboxes are there.

use std::{collections::BTreeMap, path::PathBuf};

use assay_engine::kubernetes::{
    Access, BeaconAt, Images, Kubernetes, PodOptions, Reach, Registries, Settings,
};
use assay_tests::kubectl::Kubectl;
use serde_json::{Value, json};

const POLICIES: &str = include_str!("../../../manifests/base/network.yaml");

/// The namespace. It goes with it.
pub(crate) struct Space {
    pub(crate) admin: Kubectl,
    pub(crate) name: String,
}

impl Space {
    /// A namespace. `guarded` has the label by which the admission policy and the beacon know sandboxes' namespaces;
    /// `policies` are those of `manifests/base/network.yaml`. `None`, with the reason said, where there is no cluster that
    /// enforces policies.
    pub(crate) fn make(what: &str, guarded: bool, policies: bool) -> Option<Self> {
        if std::env::var_os("ASSAY_TEST_CNI").is_none_or(|name| name != "cilium") {
            eprintln!(
                "skipped: ASSAY_TEST_KUBECTL is not there, or the cluster's CNI does not enforce NetworkPolicies"
            );
            return None;
        }
        let admin = super::kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN")?;
        let name = format!("{what}-{}", std::process::id());
        let labels = if guarded {
            json!({"assay.dev/sandboxes": "true"})
        } else {
            json!({})
        };
        let space = Self { admin, name };
        space.create(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space.name, "labels": labels},
        }));
        let words = ["wait", "--for=create", "serviceaccount/default", "--timeout=180s"];
        space.ok(&words, None);
        if policies {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("network.yaml");
            let here = POLICIES.replace(
                "namespace: assay-sandboxes",
                &format!("namespace: {}", space.name),
            );
            std::fs::write(&file, here).unwrap();
            space.ok(&["apply", "-f", file.to_str().unwrap()], None);
        }
        Some(space)
    }

    /// What an engine here is told, with every right.
    pub(crate) fn settings(&self) -> Settings {
        settings(&self.admin, &self.name)
    }

    /// An engine whose sandboxes are here.
    pub(crate) async fn engine(&self) -> Kubernetes {
        Kubernetes::connect(self.settings()).await.unwrap()
    }

    /// Makes an object.
    pub(crate) fn create(&self, object: &Value) {
        self.admin.ok(&["create", "-f", "-"], Some(object)).unwrap();
    }

    /// A command about this namespace that has to succeed; what it prints.
    pub(crate) fn ok(&self, words: &[&str], object: Option<&Value>) -> String {
        let words = [words, &["-n", &self.name]].concat();
        self.admin.ok(&words, object).unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.admin
            .run(&["delete", "namespace", &self.name, "--wait=false"], None);
    }
}

/// What an engine is told whose sandboxes are in this namespace: the tests' images and registry, pods reached directly.
pub(crate) fn settings(admin: &Kubectl, namespace: &str) -> Settings {
    let registry = std::env::var_os("ASSAY_TEST_REGISTRY").unwrap();
    let registry = registry.into_string().unwrap();
    let host = registry.trim_start_matches("http://").to_owned();
    Settings {
        access: Access {
            kubeconfig: Some(PathBuf::from(admin.kubeconfig())),
            context: None,
        },
        namespace: namespace.to_owned(),
        owner: namespace.to_owned(),
        images: Images {
            init: format!("{host}/assay/init-iptables:test"),
            proxy: format!("{host}/assay/proxy:test"),
        },
        registries: Registries {
            mirrors: BTreeMap::from([("docker.io".to_owned(), registry.clone()), (host, registry)]),
            credentials: BTreeMap::new(),
        },
        reach: Reach::Direct,
        beacon: BeaconAt::default(),
        builds: None,
        most_waiting: 6,
        pods: PodOptions {
            cpu_request_percent: 5,
            ..PodOptions::default()
        },
    }
}
