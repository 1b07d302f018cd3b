//! Leases: fences, adoption, hand-over, loss, orphans.

use assay_core::{
    cause::Cause,
    digest::Digest,
    id::{AttemptId, Fence},
    wire::{
        people::RunState,
        worker::{ArtifactUpload, OrphanVerdicts, Orphans, PostEvents, Progress, PutArtifact, TaskUrl},
    },
};
use assay_runtime::client;
use http::Method;

use crate::{
    stage::{Setting, Stage, code, eventually, stage, staged},
    work::{introduction, lease, report},
};

#[tokio::test(flavor = "multi_thread")]
async fn expired_lease_goes_to_another_worker_with_a_higher_fence() {
    let Some(stage) = stage().await else { return };
    stage.submit(&stage.submission(1).await).await;
    let (first, second) = (stage.register("a").await, stage.register("b").await);
    let held = stage.claim(first, 1).await.pop().unwrap();
    assert!(held.adopted.is_none());
    assert!(stage.claim(second, 1).await.is_empty());
    stage.expire_leases(1).await;
    let adopted = stage.claim(second, 1).await.pop().unwrap();
    assert_eq!((adopted.attempt, adopted.number), (held.attempt, 1));
    assert_eq!(adopted.fence, Fence(held.fence.0 + 1));
    assert_eq!(adopted.seed, held.seed);
    assert!(adopted.adopted.is_some());
    assert_eq!(stage.beat(first, &[lease(&held)]).await.lost, [held.attempt]);
    assert!(stage.beat(second, &[lease(&adopted)]).await.lost.is_empty());
}

/// The URL of the claim may have ended when an image is built.
#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_a_lease_is_told_where_its_task_is_now() {
    let Some(stage) = stage().await else { return };
    stage.submit(&stage.submission(1).await).await;
    let (first, second) = (stage.register("a").await, stage.register("b").await);
    let held = stage.claim(first, 1).await.pop().unwrap();
    let ask = async |fence: Fence| -> Result<TaskUrl, client::Error> {
        let path = format!("/v1/attempts/{}/task?fence={fence}", held.attempt);
        stage
            .call_as(&stage.worker_key, Method::GET, &path, None::<&()>)
            .await
    };
    let told = ask(held.fence).await.unwrap().url;
    let object = |url: &str| url.split('?').next().unwrap().to_owned();
    assert_eq!(object(&told), object(&held.task.url));
    assert!(told.contains("X-Amz-Signature="), "{told}");
    stage.hand_off(first, &[lease(&held)]).await;
    let adopted = stage.claim(second, 1).await.pop().unwrap();
    assert_eq!(code(ask(held.fence).await), "stale_fence");
    assert!(ask(adopted.fence).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_fence_is_refused_by_every_write() {
    let Some(stage) = stage().await else { return };
    stage.submit(&stage.submission(1).await).await;
    let (first, second) = (stage.register("a").await, stage.register("b").await);
    let held = stage.claim(first, 1).await.pop().unwrap();
    stage.hand_off(first, &[lease(&held)]).await;
    let adopted = stage.claim(second, 1).await.pop().unwrap();
    let late = stage.report(held.attempt, &report(&held, Cause::Completed)).await;
    assert_eq!(code(late), "stale_fence");
    let events = PostEvents {
        fence: held.fence,
        events: Vec::new(),
        progress: Progress::default(),
    };
    let path = format!("/v1/attempts/{}/events", held.attempt);
    let late: Result<(), _> = stage
        .call_as(&stage.worker_key, Method::POST, &path, Some(&events))
        .await;
    assert_eq!(code(late), "stale_fence");
    let artifact = PutArtifact {
        fence: held.fence,
        name: "patch.diff".to_owned(),
        media_type: "text/x-diff".to_owned(),
        size_bytes: 4,
        digest: Digest::of("late"),
    };
    let path = format!("/v1/attempts/{}/artifacts", held.attempt);
    let late: Result<ArtifactUpload, _> = stage
        .call_as(&stage.worker_key, Method::POST, &path, Some(&artifact))
        .await;
    assert_eq!(code(late), "stale_fence");
    let path = format!(
        "/v1/attempts/{}/output?fence={}&step=0&phase=agent&stream=stdout&offset=0",
        held.attempt, held.fence
    );
    let chunk = Some(("application/octet-stream", b"late".to_vec()));
    let (status, answer) = stage
        .send(stage.at(0, &path), Method::PUT, Some(&stage.worker_key), chunk)
        .await
        .unwrap();
    assert_eq!(
        code(Err::<(), _>(client::problem(status, &answer))),
        "stale_fence"
    );
    stage.finish(&adopted, Cause::Completed).await;
    for table in ["artifacts", "output_chunks"] {
        let kept: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(&stage.pool)
            .await
            .unwrap();
        assert_eq!(kept, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_handed_over_is_adopted_at_once_and_uses_up_no_attempt() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let (first, second) = (stage.register("a").await, stage.register("b").await);
    let held = stage.claim(first, 1).await.pop().unwrap();
    stage.hand_off(first, &[lease(&held)]).await;
    assert_eq!(stage.beat(first, &[lease(&held)]).await.lost, [held.attempt]);
    let adopted = stage.claim(second, 1).await.pop().unwrap();
    assert_eq!(adopted.attempt, held.attempt);
    let run = stage.runs(&evaluation).await.pop().unwrap();
    assert_eq!((run.attempts, run.worker.as_deref()), (1, Some("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_adopts_what_its_former_life_held() {
    let Some(stage) = stage().await else { return };
    stage.submit(&stage.submission(1).await).await;
    let first = stage.register("same").await;
    let held = stage.claim(first, 1).await.pop().unwrap();
    let again = stage.register("same").await;
    assert_ne!(first, again);
    assert_eq!(stage.claim(again, 1).await.pop().unwrap().attempt, held.attempt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_adopts_is_closed_as_lost_and_tried_again() {
    let Some(stage) = staged(Setting {
        lease_ms: 200,
        ..Setting::default()
    })
    .await
    else {
        return;
    };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    eventually("the attempt is closed as lost", || async {
        stage.runs(&evaluation).await[0].cause == Some(Cause::Lost)
    })
    .await;
    let run = stage.runs(&evaluation).await.pop().unwrap();
    assert_eq!(run.state, RunState::Queued);
    let late = stage.report(held.attempt, &report(&held, Cause::Completed)).await;
    assert_eq!(code(late), "stale_fence");
    stage.forget_back_off().await;
    let second = stage.claim(worker, 1).await.pop().unwrap();
    assert_eq!((second.run, second.number), (held.run, 2));
    assert!(second.fence > held.fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_report_changes_nothing() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    for _ in 0..3 {
        stage.finish(&held, Cause::Completed).await;
    }
    let ended = stage.evaluation(&evaluation).await;
    assert_eq!((ended.runs.finished, ended.score), (1, Some(1.0)));
    assert_eq!(stage.runs(&evaluation).await[0].attempts, 1);
}

async fn verdicts(stage: &Stage, attempts: Vec<AttemptId>) -> Vec<AttemptId> {
    let worker = stage.register("reconciler").await;
    let path = format!("/v1/workers/{worker}/orphans");
    let orphans = Orphans { attempts };
    let answer = stage
        .call_as(&stage.worker_key, Method::POST, &path, Some(&orphans))
        .await;
    let verdicts: OrphanVerdicts = answer.unwrap();
    verdicts.delete
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_deleted_only_when_its_attempt_is_over() {
    let Some(stage) = stage().await else { return };
    stage.submit(&stage.submission(3).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 3).await;
    let unknown = AttemptId(uuid::Uuid::from_u128(7));
    stage.finish(&held[0], Cause::Completed).await;
    let asked: Vec<_> = held
        .iter()
        .map(|assignment| assignment.attempt)
        .chain([unknown])
        .collect();
    assert_eq!(verdicts(&stage, asked.clone()).await, [held[0].attempt, unknown]);
    // An expired lease can still be adopted: its sandbox stays, until two lease times are over.
    stage.expire_leases(1000).await;
    assert_eq!(verdicts(&stage, asked.clone()).await.len(), 2);
    stage.expire_leases(120_001).await;
    assert_eq!(verdicts(&stage, asked).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_commit_is_refused_register_and_claim_but_not_report() {
    let setting = Setting {
        require_same_commit: true,
        ..Setting::default()
    };
    let Some(stage) = staged(setting).await else {
        return;
    };
    assert_eq!(
        code(stage.register_as(&introduction("w")).await),
        "commit_mismatch"
    );
    let version: assay_core::wire::people::Version = stage.get("/version").await.unwrap();
    let mut same = introduction("w");
    same.commit = version.commit;
    let worker = stage.register_as(&same).await.unwrap().worker;
    stage.submit(&stage.submission(2).await).await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    let deployed = sqlx::query("UPDATE workers SET commit = 'older'")
        .execute(&stage.pool)
        .await;
    assert!(deployed.is_ok());
    assert_eq!(code(stage.try_claim(worker, 1).await), "commit_mismatch");
    stage.finish(&held, Cause::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_a_foreign_wire_is_refused() {
    let Some(stage) = stage().await else { return };
    let mut future = introduction("w");
    (future.wire, future.wire_oldest) = (99, 98);
    assert_eq!(code(stage.register_as(&future).await), "wire_mismatch");
}
