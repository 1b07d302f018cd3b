//! Group H: money, as the workload meets it. The account itself is tested where it lives: core, proxy.

use assay_core::{money::PicoUsd, phase::EgressPhase};
use assay_tests::stage::{Stage, Walls};

use crate::scene::{GUARDED, MODEL, attack, fresh};

fn with_budget(budget: &str, requests: u64) -> Option<Stage> {
    let budget: PicoUsd = budget.parse().unwrap();
    fresh(Walls::ALL, |assignment| {
        let purse = assignment.purses.get_mut(&EgressPhase::Agent).unwrap();
        (purse.budget, purse.max_requests) = (budget, requests);
    })
}

#[test]
fn h3_what_was_under_way_when_the_proxy_was_killed_counts_as_spent() {
    let Some(mut stage) = with_budget("1", 100) else {
        return;
    };
    std::thread::scope(|scope| {
        let call = scope.spawn(|| attack_quietly(&stage));
        while stage.ledger().unwrap().reserved == PicoUsd::ZERO {
            assert!(!call.is_finished());
        }
        stage
            .operator(&format!("kill -9 {}", stage.proxy_pid().unwrap()))
            .unwrap();
        call.join().unwrap();
    });
    stage.start_proxy().unwrap();
    let ledger = stage.ledger().unwrap();
    assert!(
        ledger.unresolved > PicoUsd::ZERO && ledger.settled == PicoUsd::ZERO,
        "{ledger:?}"
    );
    assert!(
        !stage.proxy_answer().unwrap().serving,
        "and it serves nobody again"
    );
}

/// A call that the service never answers.
fn attack_quietly(stage: &Stage) {
    let attacks = stage.path("attacks");
    let argv = [
        crate::scene::PYTHON,
        "-B",
        attacks.to_str().unwrap(),
        "web.model_call",
        "1",
        "ASSAY-FAULT-SILENCE",
    ];
    drop(stage.attack(None, &argv));
}

#[test]
fn h10_a_spent_budget_is_told_as_403_that_nobody_tries_again() {
    let Some(stage) = with_budget("0.0000001", 100) else {
        return;
    };
    let calls = attack(&stage, "web.model_call", &["2"]);
    assert_eq!(
        calls.text.matches("403 budget_exhausted").count(),
        2,
        "{}",
        calls.text
    );
    assert!(!calls.seen.reached(MODEL));
    assert_eq!(stage.ledger().unwrap().cost_max(), PicoUsd::ZERO);
}

#[test]
fn h17_a_flood_of_cheap_calls_ends_at_the_number_of_requests() {
    let Some(stage) = with_budget("1", 3) else { return };
    let calls = attack(&stage, "web.model_call", &["6"]);
    assert_eq!(calls.text.matches("200").count(), 3, "{}", calls.text);
    assert_eq!(calls.text.matches("403").count(), 3, "{}", calls.text);
    assert_eq!(stage.ledger().unwrap().requests, 3);
}

#[test]
fn h18_usage_tells_of_this_run_only() {
    let Some(stage) = GUARDED.take() else { return };
    for (path, status) in [
        ("/usage", "200"),
        ("/v1/usage", "200"),
        ("/usage/other", "403"),
        ("/v1/generation", "403"),
        ("/v1/credits", "403"),
    ] {
        let asked = attack(&stage, "web.ask_port", &["15088", "GET", path]);
        assert!(
            asked.text.ends_with(&format!("{path} {status}\n")),
            "{}",
            asked.text
        );
    }
}
