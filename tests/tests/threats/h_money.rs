//! Group H: money, as the workload meets it. The account itself is tested where it lives: core, proxy.

use assay_core::{
    control::proxy::{Ledger, ProxyAssignment},
    money::PicoUsd,
    phase::EgressPhase,
};
use assay_tests::stage::{Outcome, Stage, Walls};
use serde_json::json;

use crate::{
    d_http::refused,
    scene::{GUARDED, MODEL, NO_RUNNER, OPEN, attack, fresh},
};

fn with_budget(budget: &str, requests: u64) -> Option<Stage> {
    let budget: PicoUsd = budget.parse().unwrap();
    fresh(Walls::ALL, |assignment| {
        let purse = assignment.purses.get_mut(&EgressPhase::Agent).unwrap();
        (purse.budget, purse.max_requests) = (budget, requests);
    })
}

/// What an attack costs its victim by the service's own bill, and the attack.
fn billed(stage: &Stage, name: &str, arguments: &[&str]) -> (PicoUsd, Outcome) {
    let bill = || stage.internet.model.bill().total();
    let before = bill();
    let outcome = attack(stage, name, arguments);
    (bill().saturating_sub(before), outcome)
}

/// The account once nothing is under way.
pub(crate) fn at_rest(stage: &Stage) -> Ledger {
    loop {
        let ledger = stage.ledger().unwrap();
        if ledger.reserved == PicoUsd::ZERO && ledger.reconciling == 0 {
            return ledger;
        }
    }
}

/// The same attack spends more than this budget in the open and, to the last digit of the bill, no more behind a purse of it.
fn spends_no_more_than(budget: &str, name: &str, arguments: &[&str]) -> Option<(Outcome, Outcome)> {
    let stage = with_budget(budget, 1_000)?;
    let budget: PicoUsd = budget.parse().unwrap();
    let (spent, open) = billed(&*OPEN.take()?, name, arguments);
    assert!(spent > budget, "the attack itself spends only {spent}");
    let (_, guarded) = billed(&stage, name, arguments);
    let ledger = at_rest(&stage);
    let spent = stage.internet.model.bill().total();
    assert!(spent <= budget && spent > PicoUsd::ZERO, "{spent} of {budget}");
    assert_eq!((ledger.settled, ledger.unresolved), (spent, PicoUsd::ZERO));
    Some((open, guarded))
}

#[test]
fn h1_calls_that_all_look_before_one_has_ended_spend_no_more_than_there_is() {
    let spent = spends_no_more_than("0.0025", "web.spend_at_once", &["30", "ASSAY-TOKENS: 300"]);
    let Some((open, guarded)) = spent else { return };
    assert_eq!(open.text.matches("through 200").count(), 30, "{}", open.text);
    assert!(
        guarded.text.contains("budget_") && guarded.text.contains("through 200"),
        "{}",
        guarded.text
    );
}

#[test]
fn h2_who_hangs_up_before_the_bill_has_spent_it_all_the_same() {
    let spent = spends_no_more_than("0.0045", "web.hang_up", &["8", "ASSAY-TOKENS: 300"]);
    let Some((open, _)) = spent else { return };
    // Who reads the usage out of what the caller took would book nothing.
    assert_eq!(open.text.matches("no usage seen").count(), 8, "{}", open.text);
}

#[test]
fn h7_it_is_the_output_that_is_clamped_and_not_the_book_alone() {
    let spent = spends_no_more_than("0.002", "web.spend", &["1", "ASSAY-TOKENS: 3000"]);
    let Some((open, guarded)) = spent else { return };
    assert!(open.text.contains("through 200") && guarded.text.contains("through 200"));
}

#[test]
fn h5_h16_what_has_no_price_and_what_runs_tools_reaches_the_service_only_in_the_open() {
    let body = |fields: serde_json::Value| {
        let mut body = json!({"model": "test/small", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body.to_string()
    };
    refused(&[
        (
            json!({"name": "unpriced", "body": body(json!({"model": "test/unpriced"}))}),
            "model_not_allowed",
        ),
        (
            json!({"name": "one-unpriced", "body": body(json!({"models": ["test/small", "test/unpriced"]}))}),
            "model_not_allowed|field_invalid|field_not_allowed",
        ),
        (
            json!({"name": "loop", "body": body(json!({"tools": [{"type": "openrouter:web_search"}], "max_tool_calls": 30}))}),
            "tool_not_allowed|field_not_allowed",
        ),
    ]);
}

#[test]
fn h3_what_was_under_way_when_the_proxy_was_killed_counts_as_spent() {
    let granted = |assignment: &mut ProxyAssignment| {
        assignment.purses.get_mut(&EgressPhase::Agent).unwrap().budget = "1".parse().unwrap();
    };
    let Some(mut stage) = fresh(NO_RUNNER, granted) else {
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
    stage.kill_proxy().unwrap();
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
    // The same death where the log goes with the process, as an account in memory does: the whole budget, nothing spent.
    stage.begin_on_disk(EMPTY_DISK_KIB, granted).unwrap();
    let ledger = stage.ledger().unwrap();
    assert_eq!(
        (ledger.cost_max(), ledger.budget.to_string().as_str()),
        (PicoUsd::ZERO, "1")
    );
    let calls = attack(&stage, "web.model_call", &["1"]);
    assert!(calls.text.starts_with("200"), "{}", calls.text);
}

/// Room for the log and the audit of a few calls.
const EMPTY_DISK_KIB: u64 = 1_024;

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
    let open = attack(&OPEN.take().unwrap(), "web.spend", &["2"]);
    assert_eq!(open.text.matches("through 200").count(), 2, "{}", open.text);
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
    let open = attack(&OPEN.take().unwrap(), "web.spend", &["6"]);
    assert_eq!(open.text.matches("through 200").count(), 6, "{}", open.text);
    let calls = attack(&stage, "web.model_call", &["6"]);
    assert_eq!(calls.text.matches("200").count(), 3, "{}", calls.text);
    assert_eq!(calls.text.matches("403").count(), 3, "{}", calls.text);
    assert_eq!(stage.ledger().unwrap().requests, 3);
}

#[test]
fn h18_usage_tells_of_this_run_only() {
    // In the open everybody with the key reads everybody's bill by its name.
    let others = json!({"name": "others", "method": "GET", "path": "/api/v1/generation?id=gen-1"});
    let Some(open) = OPEN.take() else { return };
    attack(&open, "web.spend", &["1"]);
    let (_, told) = crate::d_http::calls(&open, std::slice::from_ref(&others));
    assert_eq!(told[0].1, "200", "{told:?}");
    drop(open);
    let (outcome, told) = crate::d_http::calls(&GUARDED.take().unwrap(), &[others]);
    assert!(told[0].1 == "403" && !outcome.seen.reached(MODEL), "{told:?}");
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
