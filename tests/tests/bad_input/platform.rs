//! What fails around the runs: keys, the object store.

use std::time::Duration;

use assay_core::{
    agent::Contract, cause::Cause, control::runner::Stream, phase::Phase, policy::Policy,
    wire::people::RunState,
};
use assay_tests::installation::{
    Files, Installation, Order, Setup,
    files::{shell_agent, task},
};
use futures_util::future::join_all;

use crate::home::{expect, refused};

pub async fn a_wrong_key(home: &Installation) {
    let stranger = home.api_with_key("assay_0000000000000000").unwrap();
    refused(stranger.evaluations(1).await, "unauthorized", &["key"]);
}

/// On an installation of its own, because everybody else's runs would wait too.
pub async fn the_object_store_may_be_gone_for_a_minute(_: &Installation) {
    let mut own = Installation::start(Setup::from_env("ASSAY_TEST_DOCKER").unwrap())
        .await
        .unwrap();
    // Both go on past the end of the store, however much later the second one starts, and end before it is back.
    let slow_tests = task().with(
        "tests/test.sh",
        "#!/bin/sh\nsleep 45\ngrep -c 42 answer.txt > /logs/verifier/reward.txt\n",
    );
    let slow_agent = shell_agent("sleep 45\nhead -c 1000000 /dev/zero | tr '\\0' x\necho 42 > answer.txt\n");
    let in_agent = own
        .submit(&order(&own, &task(), Some(&slow_agent)).await)
        .await
        .unwrap();
    let in_verify = own.submit(&order(&own, &slow_tests, None).await).await.unwrap();
    let later = order(&own, &task(), None).await;
    let is_in = |phase| move |run: &assay_core::wire::people::Run| run.phase == Some(phase);
    own.wait_for(&in_agent, is_in(Phase::Agent)).await.unwrap();
    own.wait_for(&in_verify, is_in(Phase::Verify)).await.unwrap();

    own.stop_objects().await;
    let in_prepare = own.submit(&later).await.unwrap();
    let new = task().with("instruction.md", "Nobody can take this now");
    let words = ["the object store does not answer; try again"];
    refused(own.register_task(&new).await, "objects_unavailable", &words);
    // This is how long it is gone, not something that is waited for.
    tokio::time::sleep(Duration::from_mins(1)).await;
    for evaluation in [&in_agent, &in_verify, &in_prepare] {
        let run = own.wait_for(evaluation, |_| true).await.unwrap();
        assert_eq!(run.state, RunState::Running, "{run:?}");
    }
    own.start_objects().await.unwrap();

    let evaluations = [&in_agent, &in_verify, &in_prepare];
    let ended = join_all(evaluations.map(|evaluation| own.ended(evaluation))).await;
    for ended in &ended {
        expect(ended.as_ref().unwrap(), Cause::Completed, Some(1.0), &[]);
    }
    let printed = own
        .output(ended[0].as_ref().unwrap(), Phase::Agent, Stream::Stdout)
        .await;
    assert_eq!(
        printed.unwrap().len(),
        1_000_000,
        "printed while the store was gone"
    );
    own.register_task(&new).await.unwrap();
    own.stop().await.unwrap();
}

async fn order(home: &Installation, task: &Files, agent: Option<&Files>) -> Order {
    let agent = match agent {
        Some(files) => home.register_agent(files).await.unwrap(),
        None => home.built_in(Contract::Oracle).await.unwrap(),
    };
    Order {
        task: home.register_task(task).await.unwrap().digest,
        agent,
        policy: Policy::default(),
    }
}
