//! Whatever dies around a sandbox on a cluster, its run ends in exactly one outcome, nothing is left of it, and nothing is
//! charged to its agent.
//!
//! | what | the run whose agent works | a run that begins |
//! |---|---|---|
//! | both screeners killed, started again | adopted, the same execution goes on | – |
//! | both replicas of the API killed, started again | goes on | – |
//! | its pod deleted | `sandbox_lost`, again | – |
//! | the kubelet stopped for a while | goes on | waits for it |
//! | containerd killed, started again | goes on | – |
//! | the registry away | goes on | `sandbox_failed` until it is back, then again |

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use assay_core::{
    cause::Cause,
    money::PicoUsd,
    policy::Policy,
    wire::people::{Evaluation, RunState},
};
use assay_tests::{
    installation::files::shell_agent,
    person::{Ended, Order, Person},
    processes::{Cluster, Installation, Node},
};

use super::runs;

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Screeners,
    Api,
    Pod,
    Kubelet,
    Containerd,
    Registry,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_ends_in_exactly_one_outcome_whatever_dies() {
    let Some(mut kit) = runs::installation(&[]).await else {
        return;
    };
    let only = std::env::var_os("ASSAY_CHAOS");
    for victim in [
        Victim::Screeners,
        Victim::Api,
        Victim::Pod,
        Victim::Kubelet,
        Victim::Containerd,
        Victim::Registry,
    ] {
        if only.as_ref().is_some_and(|only| *only != *format!("{victim:?}")) {
            continue;
        }
        let begun = Instant::now();
        if let Err(error) = round(&mut kit, victim).await {
            panic!("{victim:?}: {error:#}\n{}", kit.logs());
        }
        eprintln!("{victim:?}: {:.1} s", begun.elapsed().as_secs_f64());
    }
}

async fn round(kit: &mut Installation<Cluster>, victim: Victim) -> anyhow::Result<()> {
    let node = Node::of(kit.ground.admin.kubeconfig())?;
    let person = Person { api: kit.api.clone() };
    let agent = shell_agent(AGENT);
    let order = person
        .order(&runs::task_of_an_image(), Some(&agent), Policy::default())
        .await?;
    let working = person.submit(&order).await?;
    let pod = works(kit, &person, &working).await?;
    let beginning = harm(kit, &node, &person, (victim, &order, &pod)).await?;
    let lost = (victim == Victim::Pod).then_some(Cause::SandboxLost);
    let ended = outcome(kit, &person, &working).await?;
    causes(&ended, lost)?;
    if let Some(evaluation) = beginning {
        let ended = outcome(kit, &person, &evaluation).await?;
        causes(
            &ended,
            (victim == Victim::Registry).then_some(Cause::SandboxFailed),
        )?;
    }
    Ok(())
}

/// Lets it die and does what a supervisor would; the run that was begun meanwhile.
async fn harm(
    kit: &mut Installation<Cluster>,
    node: &Node,
    person: &Person,
    (victim, order, pod): (Victim, &Order, &str),
) -> anyhow::Result<Option<Evaluation>> {
    match victim {
        Victim::Screeners => {
            for screener in &mut kit.screeners {
                screener.kill().await?;
            }
            for screener in &mut kit.screeners {
                screener.start()?;
            }
        }
        Victim::Api => {
            for replica in &mut kit.replicas {
                replica.kill().await?;
            }
            for replica in &mut kit.replicas {
                replica.start()?;
            }
            kit.replicas_answer().await?;
        }
        Victim::Pod => {
            let words = ["delete", "pod", pod, "-n", "assay-sandboxes", "--grace-period=1"];
            kit.ground.admin.ok(&words, None)?;
        }
        Victim::Kubelet => {
            node.signal("kubelet", "STOP")?;
            let begun = begin_under(kit, person, order).await;
            node.signal("kubelet", "CONT")?;
            return begun.map(Some);
        }
        Victim::Containerd => {
            node.kill("containerd").await?;
            node.start().await?;
        }
        Victim::Registry => {
            node.kill("registry").await?;
            let begun = fail_under(kit, person, order).await;
            node.start().await?;
            kit.front.let_claim();
            return begun.map(Some);
        }
    }
    Ok(None)
}

/// A run whose pod is there and waits for its node.
async fn begin_under(
    kit: &Installation<Cluster>,
    person: &Person,
    order: &Order,
) -> anyhow::Result<Evaluation> {
    let evaluation = person.submit(order).await?;
    let run = person
        .wait_for(&evaluation, |run| run.state == RunState::Running)
        .await?;
    until("its pod is there", || Ok(kit.ground.pod_of(run.id)?.is_some())).await?;
    Ok(evaluation)
}

/// A run whose first attempt has failed. Claims wait from then on: a start takes seconds, in which it could fail too often.
async fn fail_under(
    kit: &Installation<Cluster>,
    person: &Person,
    order: &Order,
) -> anyhow::Result<Evaluation> {
    let evaluation = person.submit(order).await?;
    person
        .wait_for(&evaluation, |run| {
            run.state == RunState::Running || run.cause.is_some()
        })
        .await?;
    kit.front.stop_claims();
    person.wait_for(&evaluation, |run| run.cause.is_some()).await?;
    Ok(evaluation)
}

/// Waits until the agent of a run works; its pod.
pub(crate) async fn works(
    kit: &Installation<Cluster>,
    person: &Person,
    evaluation: &Evaluation,
) -> anyhow::Result<String> {
    let run = person
        .wait_for(evaluation, |run| run.state == RunState::Running)
        .await?
        .id;
    until("its agent works", || {
        let Some(pod) = kit.ground.pod_of(run)? else {
            return Ok(false);
        };
        let pod = pod["metadata"]["name"].as_str().context("a name")?.to_owned();
        let words = [
            "exec",
            &pod,
            "-n",
            "assay-sandboxes",
            "-c",
            "main",
            "--",
            "test",
            "-e",
            "/tmp/works",
        ];
        Ok(kit.ground.admin.run(&words, None).status.success())
    })
    .await?;
    let pod = kit.ground.pod_of(run)?.context("its pod")?;
    Ok(pod["metadata"]["name"].as_str().context("a name")?.to_owned())
}

/// Lets the agents of a run go on, in every pod that it gets, to its end.
pub(crate) async fn outcome(
    kit: &Installation<Cluster>,
    person: &Person,
    evaluation: &Evaluation,
) -> anyhow::Result<Ended> {
    let over = person.over(evaluation);
    tokio::pin!(over);
    let mut look = tokio::time::interval(Duration::from_millis(500));
    let ended = loop {
        // cancel-safe: the interval loses nothing, and waiting for the end goes on.
        tokio::select! {
            ended = &mut over => break ended?,
            _ = look.tick() => {
                for run in kit.api.runs(evaluation.id).await.unwrap_or_default() {
                    release(kit, run.id)?;
                }
            }
        }
    };
    kit.swept(ended.run.id).await?;
    Ok(ended)
}

fn release(kit: &Installation<Cluster>, run: impl std::fmt::Display) -> anyhow::Result<()> {
    if let Some(pod) = kit.ground.pod_of(run)? {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let words = [
            "exec",
            name,
            "-n",
            "assay-sandboxes",
            "-c",
            "main",
            "--",
            "touch",
            "/tmp/go",
        ];
        // One that does not run yet, or not any more, is met again or not needed.
        kit.ground.admin.run(&words, None);
    }
    Ok(())
}

/// Perhaps this cause, as often as it may be tried again, then the reward; nothing is charged.
fn causes(ended: &Ended, lost: Option<Cause>) -> anyhow::Result<()> {
    let causes: Vec<_> = ended.tried().map(|attempt| attempt.cause).collect();
    let (last, before) = causes.split_last().context("an attempt")?;
    ensure!(*last == Some(Cause::Completed), "{causes:?}: {:#?}", ended.run);
    ensure!(
        before.iter().all(|cause| *cause == lost),
        "{causes:?}, wanted {lost:?} at most"
    );
    ensure!(before.is_empty() == lost.is_none(), "{causes:?}, wanted {lost:?}");
    ensure!(
        (ended.run.state, ended.run.score) == (RunState::Finished, Some(1.0)),
        "{:#?}",
        ended.run
    );
    ensure!(ended.run.cost == PicoUsd::ZERO, "{:#?}", ended.run);
    Ok(())
}

async fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Guards against hanging alone: a pod may take long on a busy node.
const PATIENCE: Duration = Duration::from_mins(3);
/// Says that it works, and waits to be let go.
pub(crate) const AGENT: &str =
    "touch /tmp/works\nuntil [ -e /tmp/go ]; do sleep 0.1; done\necho 42 >answer.txt\n";
