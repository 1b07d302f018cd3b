//! Claims under concurrency, order, cancel, pending work.

use std::{collections::BTreeSet, sync::Arc};

use assay_api::PendingWork;
use assay_core::{
    cause::Cause,
    wire::people::{Evaluation, Run, RunState},
};
use assay_runtime::client;
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
    // It is to be tried again in a second or two, and not while this looks.
    let later = "UPDATE run_queue SET not_before = now() + interval '1 hour' WHERE run = $1";
    sqlx::query(later)
        .bind(held[1].run.0)
        .execute(&stage.pool)
        .await
        .unwrap();
    agree(&stage, (7, 0, 2)).await;
    let path = format!("/v1/evaluations/{}/cancel", evaluation.id);
    let _: Evaluation = stage.call(Method::POST, &path, None::<&()>).await.unwrap();
    agree(&stage, (0, 0, 0)).await;
}

async fn agree(stage: &Stage, (queued, leased, desired): (u64, u64, u64)) {
    for (_, internal) in &stage.replicas {
        eventually("pending work equals the tables", || async {
            let work = pending(stage, internal).await;
            let total = &work.total;
            (total.queued, total.leased, total.desired) == (queued, leased, desired)
                && same(&work, counted(stage).await)
        })
        .await;
    }
}

/// What the whole document must be, counted row by row.
async fn counted(stage: &Stage) -> PendingWork {
    let rows: Vec<(String, bool, uuid::Uuid, i64, Option<String>)> = sqlx::query_as(
        "SELECT q.class, q.state = 'leased', q.evaluation, floor(extract(epoch FROM now() - q.not_before))::bigint, w.name
         FROM run_queue q LEFT JOIN workers w ON w.id = q.lease_owner WHERE q.state <> 'blocked'",
    )
    .fetch_all(&stage.pool)
    .await
    .unwrap();
    let mut work = PendingWork::default();
    let mut evaluations = BTreeSet::new();
    for (class, leased, evaluation, age, worker) in rows {
        let load = work.classes.entry(class.clone()).or_default();
        let ordinal = worker.and_then(|name| name.rsplit_once('-')?.1.parse::<u64>().ok());
        // Filled with the highest busy worker first, then raised to what the load needs.
        load.desired = load.desired.max(ordinal.map_or(0, |ordinal| ordinal + 1));
        if leased {
            load.leased += 1;
        } else if let Ok(age) = u64::try_from(age) {
            load.queued += 1;
            load.queued_evaluations += u64::from(evaluations.insert((class, evaluation)));
            load.oldest_seconds = load.oldest_seconds.max(age);
        }
    }
    // Four attempts to a worker.
    for load in work.classes.values_mut() {
        let total = &mut work.total;
        total.queued += load.queued;
        total.leased += load.leased;
        total.queued_evaluations += load.queued_evaluations;
        total.oldest_seconds = total.oldest_seconds.max(load.oldest_seconds);
        total.desired = total.desired.max(load.desired);
        load.desired = load.desired.max((load.queued + load.leased).div_ceil(4));
    }
    let total = &mut work.total;
    total.desired = total.desired.max((total.queued + total.leased).div_ceil(4));
    work
}

/// Equal, but for ages that went on for a second or two between two looks.
fn same(told: &PendingWork, mut counted: PendingWork) -> bool {
    if told.total.oldest_seconds.abs_diff(counted.total.oldest_seconds) > 2 {
        return false;
    }
    counted.total.oldest_seconds = told.total.oldest_seconds;
    for (class, load) in &mut counted.classes {
        if let Some(told) = told.classes.get(class)
            && told.oldest_seconds.abs_diff(load.oldest_seconds) <= 2
        {
            load.oldest_seconds = told.oldest_seconds;
        }
    }
    *told == counted
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_work_of_several_classes_leaves_out_what_cannot_be_claimed() {
    let Some(stage) = stage().await else { return };
    let first = stage.submission(7).await;
    let elsewhere = assay_core::wire::people::NewEvaluation {
        class: "validator".to_owned(),
        ..first.clone()
    };
    stage.submit(&first).await;
    stage.submit(&first).await;
    stage.submit(&elsewhere).await;
    agree(&stage, (21, 0, 6)).await;
    for sql in [
        // One waits for its image, one is not to be tried yet, one has waited for long.
        "UPDATE run_queue SET state = 'blocked' WHERE run = (SELECT min(run::text)::uuid FROM run_queue WHERE class = '1')",
        "UPDATE run_queue SET not_before = now() + interval '1 hour' WHERE run = (SELECT max(run::text)::uuid FROM run_queue WHERE class = '1')",
        "UPDATE run_queue SET not_before = now() - interval '1000 s' WHERE run = (SELECT max(run::text)::uuid FROM run_queue WHERE class = 'validator')",
    ] {
        sqlx::query(sql).execute(&stage.pool).await.unwrap();
    }
    agree(&stage, (19, 0, 5)).await;
    let worker = stage.register("screener-8").await;
    stage.claim(worker, 5).await;
    agree(&stage, (14, 5, 9)).await;
    let told = pending(&stage, &stage.replicas[0].1).await;
    let ages = (
        told.classes["1"].oldest_seconds,
        told.classes["validator"].oldest_seconds,
    );
    assert!(ages.0 < 900 && ages.1 >= 1000, "{told:?}");
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
async fn an_api_without_its_database_or_its_objects_lives_and_is_not_ready() {
    let Some(stage) = stage().await else { return };
    let probe = async |path: &str| {
        let url = format!("{}/{path}", stage.replicas[0].1);
        let request = http::Request::get(&url).body(client::full("")).unwrap();
        let response = stage.client.send(request).await.unwrap();
        let status = response.status().as_u16();
        let body = stage.client.read(response, &url).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(probe("readyz").await, (200, "ready\n".to_owned()));
    stage.end_objects();
    let (status, words) = probe("readyz").await;
    assert!(
        status == 503 && words.contains("the object store"),
        "{status} {words}"
    );
    stage.end_database().await;
    let (status, words) = probe("readyz").await;
    assert!(
        status == 503 && words.contains("the database"),
        "{status} {words}"
    );
    assert_eq!(probe("healthz").await, (200, "ok\n".to_owned()));
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
