//! The gate of the sandboxes' namespace: the pod that the engine makes passes, and nothing that has more.

use std::process::Command;

use serde_json::{Value, json};

use super::kubectl::{Kubectl, kubectl};

/// What the engine renders, as its own golden file has it.
const GOLDEN: &str = include_str!(
    "../../../engine/src/kubernetes/pod/snapshots/assay_engine__kubernetes__pod__tests__a_pod_looks_like_this.snap"
);

#[test]
fn the_pod_of_a_sandbox_passes_the_gate() {
    let Some(kubectl) = kubectl() else { return };
    kubectl.would_take(&pod(&kubectl)).unwrap();
}

#[test]
fn a_pod_that_has_more_is_refused_by_name() {
    let Some(kubectl) = kubectl() else { return };
    let (proxy, main) = ("/spec/containers/0", "/spec/containers/1");
    let capability = |of: &str| format!("{of}/securityContext/capabilities/add/0");
    let table: Vec<(String, Value, &str)> = vec![
        ("/spec/hostNetwork".to_owned(), json!(true), "shares no namespace"),
        ("/spec/hostPID".to_owned(), json!(true), "shares no namespace"),
        ("/spec/hostIPC".to_owned(), json!(true), "shares no namespace"),
        (
            "/spec/shareProcessNamespace".to_owned(),
            json!(true),
            "share no processes",
        ),
        (
            "/spec/automountServiceAccountToken".to_owned(),
            json!(true),
            "no service-account token",
        ),
        (
            "/spec/volumes/1".to_owned(),
            json!({"name": "main", "hostPath": {"path": "/"}}),
            "emptyDir and Secret",
        ),
        (
            format!("{main}/volumeMounts/0/name"),
            json!("files"),
            "only init may mount a Secret",
        ),
        (
            format!("{main}/image"),
            json!("debian:bookworm-slim"),
            "named by its digest",
        ),
        (
            "/spec/initContainers/0/image".to_owned(),
            json!(format!("x/init@sha256:{}", "0".repeat(64))),
            "image is ours",
        ),
        (
            format!("{main}/securityContext/privileged"),
            json!(true),
            "not privileged",
        ),
        (
            format!("{main}/securityContext/runAsUser"),
            Value::Null,
            "says its user",
        ),
        (
            format!("{main}/securityContext/runAsUser"),
            json!(1337),
            "user 1337",
        ),
        (capability(main), json!("NET_ADMIN"), "only init has NET_ADMIN"),
        (capability(main), json!("SYS_ADMIN"), "only init has NET_ADMIN"),
        (
            capability("/spec/initContainers/0"),
            json!("SYS_ADMIN"),
            "only init has NET_ADMIN",
        ),
        (
            format!("{main}/securityContext/capabilities/drop"),
            json!([]),
            "drops all capabilities",
        ),
        (
            format!("{main}/ports/0/hostPort"),
            json!(15020),
            "no port of its node",
        ),
        (
            format!("{main}/command/0"),
            json!("/bin/sh"),
            "only under the runner",
        ),
        (
            format!("{proxy}/securityContext/seccompProfile/type"),
            json!("Unconfined"),
            "only under the runner",
        ),
        (
            format!("{main}/securityContext/seccompProfile"),
            Value::Null,
            "system call filter",
        ),
    ];
    for (path, value, words) in table {
        let mut pod = pod(&kubectl);
        // The API server itself refuses a kernel setting for the node's network; the gate is what is tested.
        set(&mut pod, "/spec/securityContext", Value::Null);
        set(&mut pod, &path, value);
        let refusal = kubectl.would_take(&pod).expect_err(&path);
        assert!(refusal.contains(words), "{path}: {refusal}");
    }
}

#[test]
fn a_second_init_container_is_refused() {
    let Some(kubectl) = kubectl() else { return };
    let mut pod = pod(&kubectl);
    let mut second = pod["spec"]["initContainers"][0].clone();
    second["name"] = json!("second");
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(second);
    let refusal = kubectl.would_take(&pod).unwrap_err();
    assert!(refusal.contains("one init container"), "{refusal}");
}

#[test]
fn a_native_sidecar_is_our_proxy_and_nothing_else() {
    let Some(kubectl) = kubectl() else { return };
    let with_sidecar = |change: &[(&str, Value)]| {
        let mut pod = pod(&kubectl);
        let mut sidecar = pod["spec"]["containers"].as_array_mut().unwrap().remove(0);
        sidecar["restartPolicy"] = json!("Always");
        for (path, value) in change {
            set(&mut sidecar, path, value.clone());
        }
        pod["spec"]["initContainers"]
            .as_array_mut()
            .unwrap()
            .push(sidecar);
        pod
    };
    kubectl.would_take(&with_sidecar(&[])).unwrap();
    let task = json!(format!("r/task@sha256:{}", "3".repeat(64)));
    let capabilities = "/securityContext/capabilities/add";
    for (change, words) in [
        (("/image", task), "only our proxy may be a native sidecar"),
        (
            ("/name", json!("helper")),
            "only our proxy may be a native sidecar",
        ),
        (("/restartPolicy", Value::Null), "one init container"),
        (
            ("/volumeMounts/0/name", json!("files")),
            "only init may mount a Secret",
        ),
        ((capabilities, json!(["NET_ADMIN"])), "only init has NET_ADMIN"),
    ] {
        let path = change.0;
        let refusal = kubectl.would_take(&with_sidecar(&[change])).expect_err(path);
        assert!(refusal.contains(words), "{path}: {refusal}");
    }
    let mut first = with_sidecar(&[]);
    first["spec"]["initContainers"].as_array_mut().unwrap().reverse();
    let refusal = kubectl.would_take(&first).unwrap_err();
    assert!(refusal.contains("one init container, the first"), "{refusal}");
}

#[test]
fn a_service_is_a_container_under_the_runner_and_nothing_else() {
    let Some(kubectl) = kubectl() else { return };
    let with_service = |change: &[(&str, Value)]| {
        let mut pod = pod(&kubectl);
        let mut service = pod["spec"]["containers"][1].clone();
        service["name"] = json!("service-db");
        service["command"] = json!(["/assay/runner", "service", "--config", "/assay/service.json"]);
        service["securityContext"]["allowPrivilegeEscalation"] = json!(false);
        service.as_object_mut().unwrap().remove("ports");
        for (path, value) in change {
            set(&mut service, path, value.clone());
        }
        pod["spec"]["containers"].as_array_mut().unwrap().push(service);
        kubectl.would_take(&pod)
    };
    with_service(&[]).unwrap();
    for change in [
        ("/command/0", json!("/bin/sh")),
        ("/command/1", json!("serve")),
        ("/name", json!("db")),
    ] {
        let refusal = with_service(&[change]).unwrap_err();
        assert!(refusal.contains("only under the runner"), "{refusal}");
    }
    let refusal = with_service(&[
        ("/securityContext/privileged", json!(true)),
        ("/securityContext/allowPrivilegeEscalation", json!(true)),
    ]);
    assert!(refusal.unwrap_err().contains("not privileged"));
}

/// The engine's pod with images of this cluster.
fn pod(kubectl: &Kubectl) -> Value {
    let yaml = GOLDEN.splitn(3, "---\n").nth(2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pod.yaml");
    std::fs::write(&file, yaml).unwrap();
    let read = kubectl.run(
        &[
            "create",
            "--dry-run=client",
            "--validate=false",
            "-o",
            "json",
            "-f",
            file.to_str().unwrap(),
        ],
        None,
    );
    let mut pod: Value = serde_json::from_slice(&read.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&read.stderr)));
    pod["spec"]["initContainers"][0]["image"] = json!(pinned("init-iptables"));
    pod["spec"]["containers"][0]["image"] = json!(pinned("proxy"));
    pod["spec"]["containers"][1]["image"] = json!(format!("r/task@sha256:{}", "3".repeat(64)));
    pod
}

fn pinned(name: &str) -> String {
    let registry = std::env::var_os("ASSAY_TEST_REGISTRY").unwrap();
    let registry = registry.to_str().unwrap();
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/image.py");
    let asked = Command::new(tool)
        .args([registry, "digest", &format!("assay/{name}:test")])
        .output()
        .unwrap();
    let digest = String::from_utf8(asked.stdout).unwrap();
    format!(
        "{}/assay/{name}@{}",
        registry.trim_start_matches("http://"),
        digest.trim()
    )
}

/// Sets what is there or not; null takes it away.
fn set(pod: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = pod.pointer_mut(parent).unwrap_or_else(|| panic!("{path}"));
    match parent {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        Value::Object(fields) if value.is_null() => drop(fields.remove(key).unwrap()),
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        other => panic!("{path}: {other}"),
    }
}
