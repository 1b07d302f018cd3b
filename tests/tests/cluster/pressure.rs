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
        (ended.run.state, ended.tried().count()),
        (RunState::Finished, 1),
        "{ended:#?}"
    );
}

/// The kubelet looks at disks late, and evicts. What an agent has left is looked at before its verifier starts: else an
/// agent that fills the disk as the last thing it does would have its run not counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_fills_its_disk_is_told_so_however_late() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let fills = [
        ("at its end", "head -c 400M /dev/zero >/var/tmp/fill\n"),
        (
            "by a file of the kubelet's",
            "head -c 400M /dev/zero >>/dev/termination-log\n",
        ),
        ("and stays", "head -c 400M /dev/zero >/var/tmp/fill\nsleep 300\n"),
    ];
    for (how, fills) in fills {
        let ended = ended(&kit, &small(), &format!("echo 42 >answer.txt\n{fills}")).await;
        assert_eq!(ended.run.cause, Some(Cause::AgentOutOfDisk), "{how}: {ended:#?}");
        assert_eq!((ended.run.score, ended.tried().count()), (Some(0.0), 1), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_leaves_its_disk_nearly_full_is_verified() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let fills = "echo 42 >answer.txt\nhead -c 120M /dev/zero >/var/tmp/fill\n";
    let ended = ended(&kit, &small(), fills).await;
    assert_eq!(ended.run.cause, Some(Cause::Completed), "{ended:#?}");
    assert_eq!(ended.run.score, Some(1.0), "{ended:#?}");
}

/// The good task with a small disk.
fn small() -> Files {
    let task = runs::task_of_an_image();
    let toml = task.text("task.toml");
    task.with(
        "task.toml",
        toml.replace("memory_mb = 256\n", "memory_mb = 256\nstorage_mb = 128\n"),
    )
}
