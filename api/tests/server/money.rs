//! Purses: never overdrawn, settled by cause.

use std::sync::Arc;

use assay_core::{
    cause::Cause,
    money::PicoUsd,
    wire::{people::NewEvaluation, worker::Assignment},
};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};

use crate::{
    stage::{Stage, eventually, stage, together},
    work::{ledger, report},
};

const RUN: u64 = 1_000_000;

async fn funded(stage: &Stage, repeats: u32, ceiling: Option<u64>) -> NewEvaluation {
    let mut new = stage.submission(repeats).await;
    new.policy.models.allow.insert("a/model".parse().unwrap());
    new.policy.budget.run_usd = PicoUsd::from_pico(RUN);
    new.policy.budget.ceiling_usd = ceiling.map(PicoUsd::from_pico);
    new
}

async fn spend(stage: &Stage, held: &Assignment, cause: Cause, pico: u64) {
    let mut report = report(held, cause);
    report.ledger = ledger(pico);
    stage.report(held.attempt, &report).await.unwrap();
}

async fn purse(stage: &Stage, level: i16) -> (u64, u64) {
    let sums = sqlx::query_as::<_, (Decimal, Decimal)>(
        "SELECT COALESCE(sum(reserved), 0), COALESCE(sum(settled), 0) FROM purses WHERE level = $1",
    );
    let (reserved, settled) = sums.bind(level).fetch_one(&stage.pool).await.unwrap();
    (reserved.to_u64().unwrap(), settled.to_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claims_never_overdraw_an_evaluation() {
    let Some(stage) = stage().await else { return };
    let stage = Arc::new(stage);
    stage.submit(&funded(&stage, 12, Some(5 * RUN)).await).await;
    let worker = stage.register("w").await;
    let claims = (0..20).map(|_| {
        let stage = Arc::clone(&stage);
        async move { stage.claim(worker, 2).await }
    });
    let held: Vec<_> = together(claims).await.into_iter().flatten().collect();
    let granted: u64 = held.iter().map(|assignment| assignment.budget.pico()).sum();
    assert_eq!((held.len(), granted), (5, 5 * RUN));
    assert_eq!(purse(&stage, 2).await, (5 * RUN, 0));
    // What one of them leaves over is there for the next, and not a bit more.
    spend(&stage, &held[0], Cause::Completed, RUN / 4).await;
    stage.forget_back_off().await;
    assert!(stage.claim(worker, 5).await.is_empty());
    for rest in &held[1..] {
        spend(&stage, rest, Cause::Completed, RUN).await;
    }
    stage.forget_back_off().await;
    let last = stage.claim(worker, 1).await.pop().unwrap();
    assert_eq!(last.budget.pico(), RUN - RUN / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_spends_is_settled_in_every_purse() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&funded(&stage, 1, None).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    assert_eq!(held.upstreams.len(), 1);
    assert_eq!(held.prices.models.len(), 1);
    spend(&stage, &held, Cause::BudgetExhausted, 700).await;
    for level in [1, 2, 3] {
        assert_eq!(purse(&stage, level).await, (0, 700), "level {level}");
    }
    let run = stage.runs(&evaluation).await.pop().unwrap();
    assert_eq!((run.cost.pico(), run.tokens, run.denied), (700, 7, 1));
    assert_eq!(stage.evaluation(&evaluation).await.cost.pico(), 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_fault_spent_is_the_operators_and_the_retry_gets_it_back() {
    let Some(stage) = stage().await else { return };
    stage.submit(&funded(&stage, 1, None).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    spend(&stage, &held, Cause::SandboxLost, 900).await;
    assert_eq!(
        (purse(&stage, 0).await, purse(&stage, 1).await),
        ((0, 900), (0, 0))
    );
    stage.forget_back_off().await;
    let second = stage.claim(worker, 1).await.pop().unwrap();
    assert_eq!(second.budget.pico(), RUN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_above_the_grant_is_not_the_tenants() {
    let Some(stage) = stage().await else { return };
    stage.submit(&funded(&stage, 1, None).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    spend(&stage, &held, Cause::Completed, RUN + 5).await;
    assert_eq!(
        (purse(&stage, 0).await, purse(&stage, 2).await),
        ((0, 5), (0, RUN))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_nobody_holds_costs_its_grant_or_what_its_log_shows_beyond_it() {
    let Some(stage) = stage().await else { return };
    // The verifier has no grant here, and its log shows a bill of 5.
    for (settled, cost) in [(RUN / 2, RUN + 5), (RUN + 7, RUN + 7 + 5)] {
        let evaluation = stage.submit(&funded(&stage, 1, None).await).await;
        let worker = stage.register("w").await;
        let held = stage.claim(worker, 1).await.pop().unwrap();
        crate::evidence::put_settled(&stage, &held, settled).await;
        stage.expire_leases(120_001).await;
        eventually("the attempt is closed as lost", || async {
            stage.runs(&evaluation).await[0].cause == Some(Cause::Lost)
        })
        .await;
        assert_eq!(stage.evaluation(&evaluation).await.cost.pico(), cost);
        stage.stretch_back_off().await;
        let again = stage.claim(worker, 1).await;
        assert!(again.is_empty(), "it waits for its back-off");
        stage.forget_back_off().await;
        let second = stage.claim(worker, 1).await.pop().unwrap();
        spend(&stage, &second, Cause::Completed, 0).await;
    }
    assert_eq!(purse(&stage, 0).await, (0, 2 * RUN + 17));
}
