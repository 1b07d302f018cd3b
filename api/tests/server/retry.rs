//! The table of retries, through the API.

use assay_core::{cause::Cause, wire::people::RunState};

use crate::stage::{Stage, stage};

async fn run_through(stage: &Stage, causes: &[Cause]) -> assay_core::wire::people::Run {
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    for (index, cause) in causes.iter().enumerate() {
        stage.forget_back_off().await;
        let held = stage.claim(worker, 1).await.pop().unwrap();
        assert_eq!(usize::try_from(held.number).unwrap(), index + 1);
        stage.finish(&held, *cause).await;
    }
    stage.forget_back_off().await;
    assert!(stage.claim(worker, 1).await.is_empty() || causes.len() < 3);
    stage.runs(&evaluation).await.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_ours_is_tried_three_times_and_then_given_up() {
    let Some(stage) = stage().await else { return };
    let run = run_through(
        &stage,
        &[Cause::SandboxFailed, Cause::ProviderDown, Cause::FlipFailed],
    )
    .await;
    assert_eq!(
        (run.state, run.cause, run.score),
        (RunState::GaveUp, Some(Cause::FlipFailed), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_and_then_counts() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    stage.finish(&held, Cause::SandboxLost).await;
    let run = stage.runs(&evaluation).await.pop().unwrap();
    assert_eq!((run.state, run.attempts), (RunState::Queued, 1));
    assert!(run.not_before > run.created_at);
    stage.stretch_back_off().await;
    assert!(
        stage.claim(worker, 1).await.is_empty(),
        "claimed during the back-off"
    );
    stage.forget_back_off().await;
    let second = stage.claim(worker, 1).await.pop().unwrap();
    stage.finish(&second, Cause::Completed).await;
    let run = stage.runs(&evaluation).await.pop().unwrap();
    assert_eq!(
        (run.state, run.score, run.attempts),
        (RunState::Finished, Some(1.0), 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tasks_fault_is_neither_retried_nor_graded() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    stage.finish(&held, Cause::RewardMissing).await;
    let run = stage.runs(&evaluation).await.pop().unwrap();
    assert_eq!((run.state, run.score), (RunState::GaveUp, None));
    assert_eq!(stage.evaluation(&evaluation).await.score, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_lost_twice_is_the_agents_fault() {
    let Some(stage) = stage().await else { return };
    let run = run_through(&stage, &[Cause::ProxyLost, Cause::ProxyLost]).await;
    assert_eq!((run.state, run.score), (RunState::Finished, Some(0.0)));
    assert_eq!(run.cause, Some(Cause::AgentBrokeSandbox));
}
