//! `assay doctor --cluster`, as an operator runs it: everything there, and what it says where a wall is missing.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use assay_tests::processes::{Cluster, Installation};
use serde_json::{Value, json};

use super::{runs, space::Space};

/// Its exit code, its rows, its words.
type Answer = (Option<i32>, Vec<Value>, String);

pub(crate) async fn asked(kit: &Installation<Cluster>, more: &[&str]) -> Answer {
    asked_as(kit, more).await.1
}

/// Who its objects belonged to, and its answer. It is an owner of its own, `doctor-` and the number of its process: another one
/// may look at the same time.
async fn asked_as(kit: &Installation<Cluster>, more: &[&str]) -> (String, Answer) {
    let host = kit.ground.registry().to_owned();
    let mirrors = format!("docker.io=http://{host},{host}=http://{host}");
    let images = ["init-iptables", "proxy"].map(|name| format!("{host}/assay/{name}:test"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay-part"));
    command
        .args([
            "assay",
            "--json",
            "--api",
            kit.api.address(),
            "--key",
            kit.admin_key(),
        ])
        .args([
            "doctor",
            "--cluster",
            "--kubeconfig",
            kit.ground.admin.kubeconfig(),
            "--",
        ])
        .args([
            "--init-image",
            &images[0],
            "--proxy-image",
            &images[1],
            "--mirror",
            &mirrors,
        ])
        .args(["--reach", "direct", "--cpu-request-percent", "5"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let doctor = command.spawn().unwrap();
    let owner = format!("doctor-{}", doctor.id());
    let output = tokio::task::spawn_blocking(move || doctor.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    let rows: Vec<Value> =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{told}"));
    for row in &rows {
        println!("{} {} {}", row["verdict"], row["what"], row["detail"]);
    }
    (owner, (output.status.code(), rows, told))
}

pub(crate) fn row<'a>(rows: &'a [Value], what: &str) -> &'a Value {
    rows.iter()
        .find(|row| row["what"] == what)
        .unwrap_or_else(|| panic!("no row {what}: {rows:#?}"))
}

fn of(rows: &[Value], verdict: &str) -> BTreeSet<String> {
    rows.iter()
        .filter(|row| row["verdict"] == verdict)
        .map(|row| row["what"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_cluster_must_have_is_seen() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let repository = format!("{}/assay/tasks", kit.ground.registry());
    let more = [
        "--image-repository",
        &repository,
        "--builder-image",
        "x",
        "--buildah-image",
        "x",
    ];
    let (owner, (code, rows, told)) = asked_as(&kit, &more).await;
    assert_eq!((code, of(&rows, "missing")), (Some(0), BTreeSet::new()), "{told}");
    for what in [
        "API server",
        "admission",
        "a sandbox",
        "network policies",
        "they follow the phase",
        "API server from a sandbox",
        "cloud metadata by address",
        "IPv6 past the policies",
        "cloud metadata from the workload",
        "IPv6 from the workload",
        "service-account token",
        "every known way out",
        "its removal",
        "podPidsLimit",
        "registry: pull",
        "registry: push",
        "object store",
        "clocks",
    ] {
        assert_eq!(row(&rows, what)["verdict"], "ok", "{:#?}", row(&rows, what));
    }
    assert!(
        row(&rows, "podPidsLimit")["detail"]
            .as_str()
            .unwrap()
            .contains("4096")
    );
    let owners = kit
        .ground
        .admin
        .ok(
            &[
                "get",
                "pods,secrets",
                "-n",
                "assay-sandboxes",
                "-o",
                r"jsonpath={.items[*].metadata.labels.assay\.dev/owner}",
            ],
            None,
        )
        .unwrap();
    assert!(owners.split_whitespace().all(|one| one != owner), "{owners}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_wall_is_told_loudly() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    // Known as a namespace of sandboxes, but no policy is there: as on a network that enforces none.
    let flat = Space::make("doctor-flat", true, false).unwrap();
    let (code, rows, told) = asked(&kit, &["--namespace", &flat.name]).await;
    assert_eq!(code, Some(1), "{told}");
    let policies = row(&rows, "network policies")["detail"].as_str().unwrap();
    assert!(policies.starts_with("NOT ENFORCED"), "{policies}");
    let missing = of(&rows, "missing");
    let wanted = [
        "API server from a sandbox",
        "network policies",
        "they follow the phase",
    ];
    assert_eq!(missing, wanted.map(str::to_owned).into(), "{rows:#?}");
    assert_eq!(row(&rows, "admission")["verdict"], "ok");
    assert!(told.contains("network policies"), "{told}");

    // Without its label no gate stands before a namespace, and nobody's beacon answers there.
    let open = Space::make("doctor-open", false, true).unwrap();
    let (code, rows, _) = asked(&kit, &["--namespace", &open.name]).await;
    assert_eq!(code, Some(1));
    let admission = row(&rows, "admission")["detail"].as_str().unwrap();
    assert!(
        admission.starts_with("NOT ACTIVE") && admission.contains("NET_ADMIN"),
        "{admission}"
    );
    let policies = row(&rows, "network policies")["detail"].as_str().unwrap();
    assert!(policies.starts_with("not shown"), "{policies}");
    assert_eq!(
        row(&rows, "every known way out")["verdict"],
        "ok",
        "the first wall stands alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_named() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let more = [
        "--image-repository",
        "registry.invalid/tasks",
        "--builder-image",
        "x",
        "--buildah-image",
        "x",
        "--mirror",
        "registry.invalid=http://127.0.0.1:9",
        "--node-selector",
        "nobody=here",
    ];
    let (code, rows, _) = asked(&kit, &more).await;
    assert_eq!(code, Some(1));
    assert_eq!(row(&rows, "registry: push")["verdict"], json!("missing"));
    let pids = row(&rows, "podPidsLimit");
    assert!(
        pids["detail"].as_str().unwrap().contains("no node carries"),
        "{pids}"
    );
    let sandbox = row(&rows, "a sandbox");
    assert!(
        sandbox["detail"].as_str().unwrap().contains("no node"),
        "{sandbox}"
    );
}
