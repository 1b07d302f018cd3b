//! The second wall, seen from pods: what `manifests/base/network.yaml` lets through on a CNI that enforces it.
//!
//! Played in two namespaces of the test's own: `inside` has our policies, `outside` has none. Each denial stands beside the
//! same connection from outside, which succeeds: nothing is denied because nobody listens.

use std::{net::TcpStream, time::Duration};

use serde_json::{Value, json};

use super::kubectl::Kubectl;

const POLICIES: &str = include_str!("../../../manifests/base/network.yaml");
const NODE: &str = "10.250.0.1";
/// Seconds for what answers, on a busy node too.
const ANSWERS: u64 = 60;
/// Seconds for what is dropped in silence.
const DROPPED: u64 = 2;

#[test]
fn a_sandbox_reaches_no_pod_and_no_api_server_and_only_its_node_reaches_it() {
    let Some(admin) = admin() else { return };
    let stage = Stage::set(&admin);
    let server = stage.address("outside", "server");
    let sandbox = stage.address("inside", "sandbox");
    // From outside everything answers.
    assert!(stage.connects("outside", "free", (&server, 443), ANSWERS));
    assert!(stage.connects("outside", "free", (NODE, 6443), ANSWERS));
    for _ in 0..2 {
        assert!(
            !stage.connects("inside", "sandbox", (&server, 443), DROPPED),
            "a pod of another namespace"
        );
        assert!(
            !stage.connects("inside", "sandbox", (NODE, 6443), DROPPED),
            "the API server"
        );
        assert!(
            !stage.connects("inside", "without-phase", (&server, 443), DROPPED),
            "no phase, no network"
        );
        assert!(
            !stage.connects("outside", "free", (&sandbox, 15020), DROPPED),
            "runner control"
        );
    }
    // What listens there is reached from its own node, as a screener's control calls are from theirs.
    let runner = format!("{sandbox}:15020").parse().unwrap();
    TcpStream::connect_timeout(&runner, Duration::from_secs(ANSWERS)).unwrap();
}

fn admin() -> Option<Kubectl> {
    if std::env::var_os("ASSAY_TEST_CNI").is_none_or(|name| name != "cilium") {
        eprintln!(
            "skipped: ASSAY_TEST_KUBECTL is not there, or the cluster's CNI does not enforce NetworkPolicies"
        );
        return None;
    }
    super::kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN")
}

/// The namespaces and their pods. They go with it.
struct Stage<'a> {
    admin: &'a Kubectl,
    suffix: String,
}

impl<'a> Stage<'a> {
    fn set(admin: &'a Kubectl) -> Self {
        let stage = Self {
            admin,
            suffix: std::process::id().to_string(),
        };
        let (inside, outside) = (stage.namespace("inside"), stage.namespace("outside"));
        for name in [&inside, &outside] {
            stage.ok(&["create", "namespace", name], None);
            stage.ok(
                &[
                    "wait",
                    "--for=create",
                    "serviceaccount/default",
                    "-n",
                    name,
                    "--timeout=180s",
                ],
                None,
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("network.yaml");
        std::fs::write(
            &file,
            POLICIES.replace("namespace: assay-sandboxes", &format!("namespace: {inside}")),
        )
        .unwrap();
        stage.ok(&["apply", "-f", file.to_str().unwrap()], None);
        let sandbox = json!({"assay.dev/role": "sandbox", "assay.dev/phase": "agent"});
        stage.pod("inside", "sandbox", sandbox, 15020);
        stage.pod(
            "inside",
            "without-phase",
            json!({"assay.dev/role": "sandbox"}),
            15020,
        );
        stage.pod("outside", "server", json!({}), 443);
        stage.pod("outside", "free", json!({}), 8080);
        for name in [&inside, &outside] {
            stage.ok(
                &[
                    "wait",
                    "--for=condition=Ready",
                    "pod",
                    "--all",
                    "-n",
                    name,
                    "--timeout=300s",
                ],
                None,
            );
        }
        stage
    }

    fn namespace(&self, which: &str) -> String {
        format!("policy-{which}-{}", self.suffix)
    }

    fn pod(&self, which: &str, name: &str, labels: Value, port: u16) {
        let serve = format!("exec python3 -m http.server {port}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace(which), "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main", "image": "python:3.12-slim", "command": ["sh", "-c", serve],
                    "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                }],
            },
        });
        self.ok(&["create", "-f", "-"], Some(&pod));
    }

    fn address(&self, which: &str, name: &str) -> String {
        let namespace = self.namespace(which);
        self.ok(
            &[
                "get",
                "pod",
                name,
                "-n",
                &namespace,
                "-o",
                "jsonpath={.status.podIP}",
            ],
            None,
        )
    }

    /// Within so many seconds: a policy drops, and a refusal would be an answer.
    fn connects(&self, which: &str, name: &str, (host, port): (&str, u16), seconds: u64) -> bool {
        let namespace = self.namespace(which);
        let script = format!("import socket; socket.create_connection(('{host}', {port}), {seconds})");
        let output = self.admin.run(
            &["exec", name, "-n", &namespace, "--", "python3", "-c", &script],
            None,
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() || said.contains("timed out"),
            "{which}/{name} to {host}:{port}: {said}"
        );
        output.status.success()
    }

    fn ok(&self, words: &[&str], object: Option<&Value>) -> String {
        let output = self.admin.run(words, object);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let names = ["inside", "outside"].map(|which| self.namespace(which));
        self.admin.run(
            &[
                "delete",
                "namespace",
                &names[0],
                &names[1],
                "--wait=true",
                "--timeout=60s",
            ],
            None,
        );
    }
}
