//! What happens where the cluster has no room: told in its own words, and never more pods that wait than may.
//!
//! In a namespace of the test's own, without policies and gate: what is asked here is the scheduler and the quota.

use std::time::Duration;

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::signature::Signer,
    id::SandboxId,
    task::plan::Gpus,
};
use assay_engine::{
    Engine as _, Error, Resources, SandboxRef, SandboxSpec,
    kubernetes::{BeaconAt, GpuNames, Kubernetes, PodOptions, Reach, Settings},
    trial,
};
use assay_tests::kubectl::{self, Kubectl};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_could_hold_is_told_and_refused() {
    let Some(stage) = Stage::set("big").await else {
        return;
    };
    let engine = stage.engine(6, &[]).await;
    let mut spec = spec();
    spec.resources.memory_bytes = 1 << 50;
    let error = engine.create(&spec).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    let words = error.to_string();
    assert!(
        words.contains("no node of this cluster could hold it") && words.contains("Insufficient memory"),
        "{words}"
    );
    let nowhere = stage.engine(6, &[("nobody", "here")]).await;
    let error = nowhere.create(&self::spec()).await.unwrap_err().to_string();
    assert!(
        error.contains("no node of this cluster could hold it") && error.contains("selector"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_sandboxes_wait_for_a_node() {
    let Some(stage) = Stage::set("wait").await else {
        return;
    };
    let engine = stage.engine(1, &[("nobody", "here")]).await;
    let (mut first, mut second) = (spec(), spec());
    second.start_timeout = Duration::from_secs(3);
    let slot = first.resources;
    until_counted(&engine, &slot, 1).await;
    // Longer than all that is asked meanwhile takes on a busy machine.
    first.start_timeout = Duration::from_mins(10);
    let waits = engine.create(&first);
    let meanwhile = async {
        while engine.list().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let error = engine.create(&second).await.unwrap_err();
        assert!(matches!(error, Error::NoRoom(_)), "{error:?}");
        let listed = engine.list().await.unwrap();
        assert_eq!(listed.len(), 1, "the second was not even made: {listed:?}");
        until_counted(&engine, &slot, 0).await;
    };
    // cancel-safe: it goes with its namespace.
    tokio::select! {
        ended = waits => panic!("it does not wait: {ended:?}"),
        () = meanwhile => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_asked_before_and_told_after() {
    let Some(stage) = Stage::set("quota").await else {
        return;
    };
    let engine = stage.engine(6, &[]).await;
    let slot = spec().resources;
    stage.quota(json!({"pods": "2", "limits.memory": "1Gi"}));
    until_counted(&engine, &slot, 1).await;
    let first = SandboxSpec {
        start_timeout: Duration::from_mins(3),
        ..spec()
    };
    engine.create(&first).await.unwrap();
    until_counted(&engine, &slot, 0).await;
    let second = spec();
    let error = engine.create(&second).await.unwrap_err();
    assert!(matches!(error, Error::NoRoom(_)), "{error:?}");
    assert!(error.to_string().contains("exceeded quota"), "{error}");
    assert_eq!(
        engine.list().await.unwrap().len(),
        1,
        "nothing is left of the second"
    );
    let mut huge = spec();
    huge.resources.memory_bytes = 64 << 30;
    let error = engine.create(&huge).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { .. }),
        "more than the whole quota: {error:?}"
    );
    engine
        .destroy(&SandboxRef {
            sandbox: first.sandbox,
        })
        .await
        .unwrap();
    until_counted(&engine, &slot, 1).await;
}

/// The device is none: a node only says that it has two. What is seen is that the scheduler counts them.
#[tokio::test(flavor = "multi_thread")]
async fn gpus_of_a_task_are_taken_from_a_node_that_has_them() {
    let Some(stage) = Stage::set("gpu").await else {
        return;
    };
    let node = GpuNode::with_two(&stage.admin);
    let pods = PodOptions {
        gpus: Some(GpuNames {
            resource: node.resource.clone(),
            type_label: Some("kubernetes.io/hostname".to_owned()),
        }),
        ..PodOptions::default()
    };
    let engine = stage.engine_with(6, pods).await;
    let of = |count, types: &[&str]| SandboxSpec {
        gpus: Gpus {
            count,
            types: types.iter().map(|&name| name.to_owned()).collect(),
        },
        ..spec()
    };
    let first = SandboxSpec {
        start_timeout: Duration::from_mins(3),
        ..of(2, &["nobody", &node.name])
    };
    engine.create(&first).await.unwrap();
    let error = engine.create(&of(1, &[])).await.unwrap_err();
    assert!(matches!(error, Error::NoRoom(_)), "both are taken: {error:?}");
    for (asked, word) in [
        (of(3, &[]), node.resource.as_str()),
        (of(1, &["nobody"]), "affinity"),
    ] {
        let error = engine.create(&asked).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        let words = error.to_string();
        assert!(
            words.contains("no node of this cluster could hold it") && words.contains(word),
            "{words}"
        );
    }
}

/// A node that says it has two of a device of the test's own. It says so no more when this goes.
struct GpuNode {
    admin: Kubectl,
    name: String,
    resource: String,
}

impl GpuNode {
    fn with_two(admin: &Kubectl) -> Self {
        let first = ["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"];
        let node = Self {
            name: admin.ok(&first, None).unwrap(),
            resource: format!("example.com/gpu-{}", std::process::id()),
            admin: admin.clone(),
        };
        let patch = |at| json!({"op": "add", "path": node.path(at), "value": "2"});
        // The kubelet would follow with the second by itself, some time later.
        let patch = json!([patch("capacity"), patch("allocatable")]).to_string();
        node.admin.ok(&node.patched(&patch), None).unwrap();
        node
    }

    fn path(&self, at: &str) -> String {
        format!("/status/{at}/{}", self.resource.replace('/', "~1"))
    }

    fn patched<'a>(&'a self, patch: &'a str) -> [&'a str; 7] {
        let name = self.name.as_str();
        [
            "patch",
            "node",
            name,
            "--subresource=status",
            "--type=json",
            "-p",
            patch,
        ]
    }
}

impl Drop for GpuNode {
    fn drop(&mut self) {
        for at in ["capacity", "allocatable"] {
            let patch = json!([{"op": "remove", "path": self.path(at)}]).to_string();
            self.admin.run(&self.patched(&patch), None);
        }
    }
}

/// What waits and what a quota counts is known a moment later; on a busy node the API server may miss an answer's time.
async fn until_counted(engine: &Kubernetes, slot: &Resources, wanted: u32) {
    let end = tokio::time::Instant::now() + Duration::from_mins(2);
    loop {
        let room = engine.room(slot).await;
        if room.as_ref().is_ok_and(|room| *room == wanted) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "room for {room:?}, not {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A namespace. It goes with it.
struct Stage {
    admin: Kubectl,
    namespace: String,
}

impl Stage {
    async fn set(name: &str) -> Option<Self> {
        let admin = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN")?;
        let namespace = format!("room-{name}-{}", std::process::id());
        admin.ok(&["create", "namespace", &namespace], None).unwrap();
        let account = [
            "wait",
            "--for=create",
            "serviceaccount/default",
            "-n",
            &namespace,
            "--timeout=180s",
        ];
        admin.ok(&account, None).unwrap();
        Some(Self { admin, namespace })
    }

    async fn engine(&self, most_waiting: u32, nodes: &[(&str, &str)]) -> Kubernetes {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let pods = PodOptions {
            node_selector: nodes.iter().map(pair).collect(),
            ..PodOptions::default()
        };
        self.engine_with(most_waiting, pods).await
    }

    async fn engine_with(&self, most_waiting: u32, pods: PodOptions) -> Kubernetes {
        let settings = Settings {
            reach: Reach::Probe,
            beacon: BeaconAt::Nowhere,
            most_waiting,
            pods: PodOptions {
                cpu_request_percent: 1,
                ..pods
            },
            ..super::space::settings(&self.admin, &self.namespace)
        };
        Kubernetes::connect(settings).await.unwrap()
    }

    fn quota(&self, hard: serde_json::Value) {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "all", "namespace": self.namespace}, "spec": {"hard": hard},
        });
        self.admin.ok(&["create", "-f", "-"], Some(&quota)).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.admin
            .run(&["delete", "namespace", &self.namespace, "--wait=false"], None);
    }
}

fn spec() -> SandboxSpec {
    let mut random = [0; 10];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    let sandbox = SandboxId::new(SystemClock.now(), random);
    SandboxSpec {
        start_timeout: Duration::from_secs(15),
        ..trial::spec(sandbox, "debian:bookworm-slim", &Signer::new(&[7; 32]))
    }
}
