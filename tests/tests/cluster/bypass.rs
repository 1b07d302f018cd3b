//! The ways out, tried from inside of real pods: with no wall, with both, and with each wall alone.
//!
//! | around the pod | what holds |
//! |---|---|
//! | nothing | nothing: every attack reaches somebody, who writes it down |
//! | packet rules with proxy, and NetworkPolicies | everything |
//! | NetworkPolicies alone (the rules taken away from outside, which also ends the workload) | every address that is not public, every port but 80 and 443; no names |
//! | packet rules with proxy alone | everything |
//! | packet rules alone, the proxy killed | everything, and the workload is dead |

#[path = "bypass/scene.rs"]
mod scene;

use std::{collections::BTreeSet, time::Duration};

use assay_core::phase::EgressPhase;
use assay_engine::{Resources, kubernetes::Kubernetes};
use assay_screener::trial::Trial;

use self::scene::{Came, Scene};
use super::{pod_network::Network, space::Space};

const IMAGE: &str = "python:3.12-slim";
/// What policies that know no names have to let through.
const BY_ADDRESS: [&str; 2] = [
    "A14 443 of a public address, no TLS",
    "C3 80 of a public address for a name nobody allowed",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_way_out_is_open_without_walls_and_closed_behind_each_that_claims_it() {
    let Some(scene) = Scene::set() else { return };
    let open = scene.by_open_pod();
    assert_eq!(
        open.stopped, [""; 0],
        "what does not succeed without walls proves nothing"
    );
    let all = open.through.len();
    assert!(all > 20, "{open:?}");

    let Some(walled) = Space::make("bypass-both", true, true) else {
        return;
    };
    let engine = walled.engine().await;
    let trial = trial(&engine).await;
    nothing(&scene.by_workload(&trial).await, all);
    policies_alone(&scene, &engine, &trial).await;
    trial.end().await.unwrap();

    let Some(flat) = Space::make("bypass-rules", true, false) else {
        return;
    };
    let engine = flat.engine().await;
    let trial = self::trial(&engine).await;
    nothing(&scene.by_workload(&trial).await, all);
    rules_of_a_dead_proxy(&scene, &engine, &trial).await;
    trial.end().await.unwrap();
}

/// Whoever takes the rules away ends the workload; what somebody then tries from its network meets the policies.
async fn policies_alone(scene: &Scene, engine: &Kubernetes, trial: &Trial<'_, Kubernetes>) {
    let network = network(engine, trial).await;
    network.run(&["nft", "flush", "ruleset"]);
    ends(trial).await;
    // Its own files are of no pod, and a right to open such a socket is nobody's way out.
    let came = scene.by_network(
        &network,
        "a socket for frames,a service-account token,the proxy's assignment",
    );
    let through: BTreeSet<&str> = came.through.iter().map(String::as_str).collect();
    assert_eq!(through, BTreeSet::from(BY_ADDRESS), "{came:?}");
    let strange: Vec<_> = came
        .visits
        .iter()
        .filter(|visit| !visit.starts_with("public tcp 80 ") && !visit.starts_with("public tcp 443 "))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

/// Nobody answers in the dead proxy's place. Root of this machine could be its user or write frames; no workload can.
async fn rules_of_a_dead_proxy(scene: &Scene, engine: &Kubernetes, trial: &Trial<'_, Kubernetes>) {
    let network = network(engine, trial).await;
    let killed = std::process::Command::new("kill")
        .args(["-9", &network.proxy.to_string()])
        .status();
    assert!(killed.unwrap().success());
    ends(trial).await;
    let left_out = "a socket for frames,as the proxy's user,a service-account token,the proxy's assignment";
    let came = scene.by_network(&network, left_out);
    assert_eq!((&came.through, &came.visits), (&vec![], &vec![]), "{came:?}");
    assert!(came.stopped.len() > 15, "{came:?}");
}

/// Not one, by the attacker's word and by those of the others.
fn nothing(came: &Came, all: usize) {
    assert_eq!((&came.through, &came.visits), (&vec![], &vec![]), "{came:?}");
    assert_eq!(came.stopped.len(), all, "all were tried: {came:?}");
}

async fn trial(engine: &Kubernetes) -> Trial<'_, Kubernetes> {
    let resources = Resources {
        cpu_milli: 1_000,
        memory_bytes: 256 << 20,
        pids: 256,
        disk_bytes: 256 << 20,
    };
    Trial::start(engine, IMAGE, EgressPhase::Agent, resources)
        .await
        .unwrap()
}

async fn network(engine: &Kubernetes, trial: &Trial<'_, Kubernetes>) -> Network {
    let addresses = engine.pod_addresses(trial.name()).await.unwrap();
    Network::of(*addresses.first().unwrap())
}

/// Nothing can be run in it any more.
async fn ends(trial: &Trial<'_, Kubernetes>) {
    let end = tokio::time::Instant::now() + Duration::from_mins(2);
    while let Ok((_, Some(0))) = trial.output(&["true"]).await {
        assert!(
            tokio::time::Instant::now() < end,
            "the workload goes on without its wall"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
