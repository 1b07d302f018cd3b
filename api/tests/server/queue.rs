//! Claims under concurrency, order, cancel, pending work.

use std::{collections::BTreeSet, sync::Arc};

use assay_api::PendingWork;
use assay_core::{
    cause::Cause,
    wire::people::{Evaluation, Run, RunState},
};
use http::Method;

use crate::{
    stage::{Stage, eventually, stage, together},
    work::lease,
};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_concurrent_claimers_never_share_a_run() {
    let Some(stage) = stage().await else { return };
    let stage = Arc::new(stage);
    stage.submit(&stage.submission(40).await).await;
    let worker = stage.register("w").await;
    let claims = (0..30).map(|_| {
        let stage = Arc::clone(&stage);
        async move { stage.claim(worker, 2).await }
    });
    let taken: Vec<_> = together(claims).await.into_iter().flatten().collect();
    let rest = stage.claim(worker, 100).await;
    let attempts = taken.iter().chain(&rest);
    let runs: BTreeSet<_> = attempts.clone().map(|assignment| assignment.run).collect();
    assert_eq!((runs.len(), attempts.count()), (40, 40));
    let seeds: BTreeSet<_> = taken
        .iter()
        .map(|assignment| assignment.seed.expose().to_owned())
        .collect();
    assert_eq!(seeds.len(), taken.len(), "every attempt has a seed of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn lower_bands_go_first_and_other_classes_never() {
    let Some(stage) = stage().await else { return };
    let late = stage.submission(1).await;
    let urgent = assay_core::wire::people::NewEvaluation {
        priority: 0,
        ..late.clone()
    };
    let elsewhere = assay_core::wire::people::NewEvaluation {
        class: "validator".to_owned(),
        ..late.clone()
    };
    let (late, urgent) = (stage.submit(&late).await, stage.submit(&urgent).await);
    stage.submit(&elsewhere).await;
    let worker = stage.register("w").await;
    let claimed: Vec<_> = [stage.claim(worker, 1).await, stage.claim(worker, 5).await].concat();
    let order: Vec<_> = claimed.iter().map(|assignment| assignment.evaluation).collect();
    assert_eq!(order, [urgent.id, late.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_with_fewer_leases_goes_first() {
    let Some(stage) = stage().await else { return };
    let ours = stage.submit(&stage.submission(6).await).await;
    // The other tenant comes later, with rows of its own.
    let other = sqlx::query_scalar::<_, uuid::Uuid>("SELECT id FROM tenants WHERE name = 'them'");
    let other = other.fetch_one(&stage.pool).await.unwrap();
    for sql in [
        "UPDATE runs SET tenant = $1 WHERE repeat > 3",
        "UPDATE run_queue SET tenant = $1 WHERE repeat > 3",
        "INSERT INTO tasks SELECT $1, digest, gen_random_uuid(), name, size_bytes, warnings, longest_sec FROM tasks",
    ] {
        sqlx::query(sql).bind(other).execute(&stage.pool).await.unwrap();
    }
    let worker = stage.register("w").await;
    let claimed = stage.claim(worker, 4).await;
    let theirs = claimed
        .iter()
        .filter(|assignment| assignment.tenant.0 == other)
        .count();
    assert_eq!((claimed.len(), theirs), (4, 2), "{}", ours.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_queued_runs_at_once_and_held_ones_by_the_heartbeat() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(3).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    let path = format!("/v1/evaluations/{}/cancel", evaluation.id);
    let cancelled: Evaluation = stage.call(Method::POST, &path, None::<&()>).await.unwrap();
    assert_eq!(
        (
            cancelled.runs.running,
            cancelled.runs.finished,
            cancelled.cancelled
        ),
        (1, 2, true)
    );
    assert!(stage.claim(worker, 5).await.is_empty());
    assert_eq!(stage.beat(worker, &[lease(&held)]).await.cancel, [held.attempt]);
    stage.finish(&held, Cause::Cancelled).await;
    let ended = stage.evaluation(&evaluation).await;
    assert_eq!((ended.runs.finished, ended.finished_at.is_some()), (3, true));
    let runs = stage.runs(&evaluation).await;
    assert!(runs.iter().all(|run| run.state == RunState::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_is_cancelled_alone() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(2).await).await;
    let run = stage.runs(&evaluation).await.pop().unwrap();
    let path = format!("/v1/runs/{}/cancel", run.id);
    let cancelled: Run = stage.call(Method::POST, &path, None::<&()>).await.unwrap();
    assert_eq!(cancelled.state, RunState::Cancelled);
    assert_eq!(stage.evaluation(&evaluation).await.runs.queued, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_work_equals_the_tables_on_both_replicas() {
    let Some(stage) = stage().await else { return };
    agree(&stage, (0, 0, 0)).await;
    let evaluation = stage.submit(&stage.submission(9).await).await;
    agree(&stage, (9, 0, 3)).await;
    let worker = stage.register("screener-6").await;
    let held = stage.claim(worker, 2).await;
    agree(&stage, (7, 2, 7)).await;
    stage.finish(&held[0], Cause::Completed).await;
    agree(&stage, (7, 1, 7)).await;
    stage.finish(&held[1], Cause::SandboxLost).await;
    agree(&stage, (7, 0, 2)).await;
    let path = format!("/v1/evaluations/{}/cancel", evaluation.id);
    let _: Evaluation = stage.call(Method::POST, &path, None::<&()>).await.unwrap();
    agree(&stage, (0, 0, 0)).await;
}

async fn agree(stage: &Stage, (queued, leased, desired): (u64, u64, u64)) {
    for (_, internal) in &stage.replicas {
        eventually("pending work equals the tables", || async {
            let work = pending(stage, internal).await;
            let total = work.total;
            (total.queued, total.leased, total.desired) == (queued, leased, desired)
                && total.queued_evaluations == u64::from(queued > 0)
        })
        .await;
    }
}

async fn pending(stage: &Stage, internal: &str) -> PendingWork {
    let url = format!("{internal}/pending-work");
    let answer = stage
        .client
        .json(Method::GET, &url, Some("scaler"), None::<&()>)
        .await;
    answer.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_port_tells_health_metrics_and_work() {
    let Some(stage) = stage().await else { return };
    let internal = stage.replicas[0].1.clone();
    for path in ["healthz", "readyz", "metrics"] {
        let text = stage.get_url(&format!("{internal}/{path}")).await;
        assert!(!text.is_empty(), "{path}");
    }
    let url = format!("{internal}/pending-work");
    let answer: Result<PendingWork, _> = stage
        .client
        .json(Method::GET, &url, Some("wrong"), None::<&()>)
        .await;
    assert_eq!(crate::stage::code(answer), "unauthorized");
}
