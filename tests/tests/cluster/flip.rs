//! The change of phase on a cluster: proven by the beacon, or nobody's verdict.

use std::time::Duration;

use assay_core::{cause::Cause, money::PicoUsd, policy::Policy, wire::people::RunState};
use assay_tests::{
    person::{Ended, Person},
    processes::{Cluster, Installation},
};
use serde_json::json;

use super::runs;

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_begins_only_when_the_network_has_changed() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let ended = run(&kit).await;
    assert_eq!(
        (ended.run.cause, ended.run.score),
        (Some(Cause::Completed), Some(1.0)),
        "{ended:#?}"
    );
    let proven = kit.query(PROVEN).await.unwrap();
    assert_eq!(
        kit.query(VERIFIED).await.unwrap(),
        ["1"],
        "the tests were started"
    );
    assert_eq!(proven.len(), 1, "from agent to verifier: {proven:?}");
    eprintln!("network policies changed | proven, milliseconds: {}", proven[0]);
    let (reaction, whole) = proven[0].split_once('|').unwrap();
    let [reaction, whole] = [reaction, whole].map(|text| Duration::from_millis(text.parse().unwrap()));
    assert!(
        whole - reaction >= Duration::from_secs(1),
        "the closed port failed for a whole second: {proven:?}"
    );
}

/// A policy that still lets the sandbox come where only the phase before may: as if the change had not arrived.
#[tokio::test(flavor = "multi_thread")]
async fn policies_that_do_not_follow_the_label_end_the_attempt_and_judge_nobody() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let owner = kit.id().await.unwrap();
    let stale = Policies(&kit, format!("stale-{owner}"));
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": stale.1, "namespace": "assay-sandboxes"},
        "spec": {
            "podSelector": {"matchLabels": {"assay.dev/owner": owner}}, "policyTypes": ["Egress"],
            "egress": [{
                "to": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "assay-system"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "beacon"}},
                }],
                "ports": [{"protocol": "TCP", "port": 7001}],
            }],
        },
    });
    kit.ground
        .admin
        .ok(&["create", "-f", "-"], Some(&policy))
        .unwrap();
    let ended = run(&kit).await;
    assert_eq!(
        (ended.run.state, ended.run.score),
        (RunState::GaveUp, None),
        "{ended:#?}"
    );
    assert_eq!(ended.run.cost, PicoUsd::ZERO);
    for attempt in &ended.attempts {
        assert_eq!(attempt.cause, Some(Cause::FlipFailed), "{attempt:#?}");
    }
    assert!(ended.detail().contains("still answers at"), "{}", ended.detail());
    assert_eq!(kit.query(VERIFIED).await.unwrap(), ["0"], "no test was started");
}

/// The oracle on a small task, to its end and until nothing is left.
async fn run(kit: &Installation<Cluster>) -> Ended {
    let person = Person { api: kit.api.clone() };
    let test = "#!/bin/sh\necho the tests begin\necho 1 >/logs/verifier/reward.txt\n";
    let task = runs::task_of_an_image().with("tests/test.sh", test);
    runs::run(kit, &person, &task, None, Policy::default()).await
}

/// A policy of the test, which goes with it.
struct Policies<'a>(&'a Installation<Cluster>, String);

impl Drop for Policies<'_> {
    fn drop(&mut self) {
        self.0.ground.admin.run(
            &["delete", "networkpolicy", &self.1, "-n", "assay-sandboxes"],
            None,
        );
    }
}

const PROVEN: &str =
    "SELECT data->>'reaction_ms', data->>'proven_ms' FROM events WHERE kind = 'phase_proven'";
const VERIFIED: &str = "SELECT count(*) FROM output_streams WHERE phase = 'verify'";
