//! Memory and disk: a sandbox that takes more than it may is its agent's affair and judged on what is left.
//!
//! Elsewhere: what the cluster takes away for others, in [`super::taken`].

use assay_core::{cause::Cause, policy::Policy, wire::people::RunState};
use assay_tests::{
    installation::{Files, files::shell_agent},
    person::{Ended, Person},
    processes::{Cluster, Installation},
};

use super::runs;

async fn ended(kit: &Installation<Cluster>, task: &Files, agent: &str) -> Ended {
    let person = Person { api: kit.api.clone() };
    runs::run(kit, &person, task, Some(&shell_agent(agent)), Policy::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_more_memory_than_it_may_is_told_so() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let eats = "echo 42 >answer.txt\npython3 -c 'x = [bytearray(1 << 20) for _ in range(4096)]'\n";
    let ended = ended(&kit, &runs::task_of_an_image(), eats).await;
    assert_eq!(ended.run.cause, Some(Cause::AgentOutOfMemory), "{ended:#?}");
    assert_eq!(
        (ended.run.state, ended.attempts.len()),
        (RunState::Finished, 1),
        "{ended:#?}"
    );
}

/// The kubelet evicts a pod that is above its own limit on disk. That is the agent's doing, and the node keeps its room.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_fills_its_disk_is_evicted_and_told_so() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let task = runs::task_of_an_image();
    let toml = task
        .text("task.toml")
        .replace("memory_mb = 256\n", "memory_mb = 256\nstorage_mb = 128\n");
    let fills = "echo 42 >answer.txt\nhead -c 400M /dev/zero >/var/tmp/fill\nsleep 110\n";
    let ended = ended(&kit, &task.with("task.toml", toml), fills).await;
    assert_eq!(ended.run.cause, Some(Cause::AgentOutOfDisk), "{ended:#?}");
    assert_eq!(ended.attempts.len(), 1, "{ended:#?}");
}
