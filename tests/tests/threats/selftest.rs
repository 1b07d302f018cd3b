//! `assay-proxy selftest`: what it says without walls and behind them.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use assay_core::{
    control::{proxy::ProxyAssignment, signature::Signer},
    phase::EgressPhase,
};
use assay_engine::trial;
use assay_tests::stage::{Outcome, Walls, sandbox};
use serde_json::Value;

use crate::scene::{GUARDED, OPEN, Shared};

/// As `assay doctor --sandbox` makes them: a model may be called that nobody serves.
static TRIAL: Shared = Shared::with(Walls::ALL, |assignment: &mut ProxyAssignment| {
    let made = trial::files(assignment.sandbox, EgressPhase::Agent, &Signer::new(&[7; 32])).proxy;
    (assignment.purses, assignment.upstreams, assignment.prices) = (made.purses, made.upstreams, made.prices);
});

/// Rows by verdict.
fn rows(outcome: &Outcome, verdict: &str) -> BTreeSet<String> {
    let report: Value = serde_json::from_str(&outcome.text).unwrap();
    let wanted = report["tried"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["verdict"] == verdict);
    wanted
        .map(|finding| {
            format!(
                "{} {}",
                finding["row"].as_str().unwrap(),
                finding["what"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn the_self_test_finds_every_way_open_without_walls_and_none_behind_them() {
    let Some(open) = OPEN.take() else { return };
    // Where every user may start it: a build folder can lie beneath a home that only its owner enters.
    let mut folder = tempfile::Builder::new();
    let folder = folder
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = folder.path().join("assay-proxy");
    fs::copy(sandbox::program("assay-proxy").unwrap(), &program).unwrap();
    let run = [program.to_str().unwrap(), "selftest", "--json"];
    let outside = open.attack(None, &run).unwrap();
    println!("{}\n{}", outside.text, outside.errors);
    assert_eq!(outside.code, Some(1), "{}", outside.errors);
    drop(open);
    for (shared, user) in [(&GUARDED, None), (&TRIAL, None), (&TRIAL, Some("1000"))] {
        let stage = shared.take().unwrap();
        let inside = stage.attack(user, &run).unwrap();
        println!("{}\n{}", inside.text, inside.errors);
        assert_eq!(rows(&inside, "open"), BTreeSet::new());
        assert_eq!(inside.code, Some(0), "{}", inside.errors);
        if std::ptr::eq(shared, &TRIAL) {
            let about_models = |row: &String| row.starts_with(['E', 'F', 'G', 'H']);
            let mut untried = rows(&inside, "untried");
            untried.retain(about_models);
            assert_eq!(untried, BTreeSet::new(), "what nobody can bill is tried");
        }
    }
    // What is not open without walls would be no probe. Some rows need an image or a cluster to be open.
    let closed = rows(&outside, "closed");
    let expected: BTreeSet<String> = [
        "B25 an abstract socket of somebody else",
        "B26 a service account's token",
        "I5 the proxy's assignment and state",
        "B19 seeing a process of the proxy",
        // The first process of a container takes no stop from inside, with and without a runner.
        "J6 stopping the runner",
    ]
    .map(str::to_owned)
    .into();
    assert!(closed.is_subset(&expected), "{:?}", closed.difference(&expected));
}
