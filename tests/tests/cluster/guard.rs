//! A cluster that lacks a wall gets no run: the screener refuses, unless it is told that the wall may be missing.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use assay_core::wire::people::RunState;
use assay_engine::{Error, kubernetes::BeaconAt};
use assay_screener::guard::{self, Wall};
use assay_tests::{person::Person, processes::Part};

use super::{runs, space::Space};

/// What the guard says of a namespace, and what is left of it.
async fn asked(space: &Space, accepted: &[Wall]) -> Result<(), Error> {
    let accepted: BTreeSet<Wall> = accepted.iter().copied().collect();
    let told = guard::walls(&space.settings(), "installation", &space.name, &accepted).await;
    let left = space.ok(&["get", "pods,secrets", "-o", "name"], None);
    assert_eq!(left, "", "nothing is left of the look");
    told
}

fn refusal(told: Result<(), Error>) -> String {
    match told {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_both_walls_is_let_be() {
    let Some(space) = Space::make("guard-both", true, true) else {
        return;
    };
    let begun = Instant::now();
    asked(&space, &[]).await.unwrap();
    eprintln!("both walls seen after {:.1} s", begun.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_the_admission_policy_is_refused_unless_told() {
    // The binding knows namespaces by their label, as does the beacon's own policy.
    let Some(space) = Space::make("guard-open", false, true) else {
        return;
    };
    let words = refusal(asked(&space, &[]).await);
    assert!(
        words.contains("no admission policy guards namespace guard-open"),
        "{words}"
    );
    assert!(words.contains("NET_ADMIN in its main container"), "{words}");
    assert!(words.contains("--accept-missing admission"), "{words}");
    asked(&space, &[Wall::Admission, Wall::NetworkPolicies])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_enforces_nothing_is_refused_unless_told() {
    let Some(space) = Space::make("guard-flat", true, false) else {
        return;
    };
    let words = refusal(asked(&space, &[]).await);
    assert!(words.contains("does not enforce NetworkPolicies"), "{words}");
    assert!(words.contains("--accept-missing network-policies"), "{words}");
    asked(&space, &[Wall::NetworkPolicies]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_beacon_nothing_is_shown() {
    let Some(space) = Space::make("guard-dark", true, true) else {
        return;
    };
    let mut settings = space.settings();
    settings.beacon = BeaconAt::Nowhere;
    let told = guard::walls(&settings, "installation", "w", &BTreeSet::new()).await;
    assert!(refusal(told).contains("without a beacon"));
    // One that is not there where it should be is not taken for a network that enforces nothing, nor for one that does.
    settings.beacon = BeaconAt::Address("10.96.0.99".parse().unwrap());
    let told = guard::walls(&settings, "installation", "w", &BTreeSet::new()).await;
    assert!(matches!(&told, Err(error) if error.is_transient()), "{told:?}");
}

/// The whole program: it says why, ends, and has taken no run.
#[tokio::test(flavor = "multi_thread")]
async fn a_screener_in_front_of_an_open_namespace_ends_and_takes_nothing() {
    let Some(space) = Space::make("guard-ends", true, false) else {
        return;
    };
    let Some(mut kit) = runs::installation(&[]).await else {
        return;
    };
    for screener in &mut kit.screeners {
        screener.kill().await.unwrap();
    }
    let person = Person { api: kit.api.clone() };
    let order = person
        .order(
            &runs::task_of_an_image(),
            None,
            assay_core::policy::Policy::default(),
        )
        .await
        .unwrap();
    let evaluation = person.submit(&order).await.unwrap();
    let mut screener = refused(&kit, &space);
    screener.start().unwrap();
    let code = screener.ended(Duration::from_mins(5)).await.unwrap();
    let log = screener.log();
    assert_ne!(code, Some(0), "{log}");
    assert!(log.contains("does not enforce NetworkPolicies"), "{log}");
    let run = kit.api.runs(evaluation.id).await.unwrap().remove(0);
    assert_eq!(run.state, RunState::Queued, "{run:?}");
    assert_eq!(kit.query("SELECT count(*) FROM attempts").await.unwrap(), ["0"]);
}

/// A screener of the installation whose sandboxes would be in the namespace.
fn refused(
    kit: &assay_tests::processes::Installation<assay_tests::processes::Cluster>,
    space: &Space,
) -> Part {
    // The rights of a screener, there too.
    let account = "--serviceaccount=assay-system:screener";
    space.ok(
        &[
            "create",
            "rolebinding",
            "screener",
            "--clusterrole=admin",
            account,
        ],
        None,
    );
    let mut part = kit.another_screener("screener-open").unwrap();
    part.args(["--namespace", &space.name]);
    part
}
