//! A sandbox that the cluster takes away is tried again and charged to nobody; one whose node falls silent goes on.
//!
//! Run alone: which pod has to give way follows from all that are there, and a silent node is everybody's.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use assay_core::{cause::Cause, money::PicoUsd, policy::Policy};
use assay_tests::{
    installation::files::shell_agent,
    person::Person,
    processes::{Cluster, Installation, Node},
};
use serde_json::json;

use super::{chaos, runs};

/// Taken away by the cluster: by its eviction API, as a drain does it, and for somebody of a higher priority.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_the_cluster_takes_away_is_tried_again_and_charged_to_nobody() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    for how in [How::Evicted, How::Preempted] {
        if let Err(error) = taken_away(&kit, how).await {
            panic!("{how:?}: {error:#}\n{}", kit.logs());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Evicted,
    Preempted,
    /// By the kubelet of a node whose memory runs out.
    Starved,
}

impl How {
    /// What the attempt ends by. A kubelet in need kills first and says why seconds later: it is waited for.
    fn cause(self) -> Cause {
        match self {
            Self::Evicted | Self::Starved => Cause::Evicted,
            Self::Preempted => Cause::Preempted,
        }
    }
}

/// The kubelet takes what it likes, our control plane too, so only where `ASSAY_TEST_KUBE_SLOW` is set.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_a_node_without_memory_evicts_is_tried_again_and_charged_to_nobody() {
    if !is_slow() {
        return;
    }
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let node = node(&kit);
    let told = taken_away(&kit, How::Starved).await;
    // Whatever was seen: nobody else shall be evicted.
    node.evict_no_more().await.unwrap();
    if let Err(error) = told {
        panic!("{error:#}\n{}", kit.logs());
    }
}

/// May a test take minutes, or the node's pods? Says so where it may not.
fn is_slow() -> bool {
    let is_set = std::env::var_os("ASSAY_TEST_KUBE_SLOW").is_some();
    if !is_set {
        eprintln!(
            "skipped: ASSAY_TEST_KUBE_SLOW is not set; it takes minutes, and what else runs on the node"
        );
    }
    is_set
}

fn node(kit: &Installation<Cluster>) -> Node {
    Node::of(kit.ground.admin.kubeconfig()).unwrap()
}

async fn taken_away(kit: &Installation<Cluster>, how: How) -> anyhow::Result<()> {
    let person = Person { api: kit.api.clone() };
    let agent = shell_agent(chaos::AGENT);
    let order = person
        .order(&runs::task_of_an_image(), Some(&agent), Policy::default())
        .await?;
    let evaluation = person.submit(&order).await?;
    let pod = chaos::works(kit, &person, &evaluation).await?;
    let more_important = match how {
        How::Evicted => {
            evict(kit, &pod)?;
            None
        }
        How::Preempted => Some(MoreImportant::than(kit, &pod).await?),
        How::Starved => {
            node(kit).evict_below("99%").await?;
            None
        }
    };
    person
        .wait_for(&evaluation, |run| run.cause.is_some() || run.attempts > 1)
        .await?;
    drop(more_important);
    if how == How::Starved {
        node(kit).evict_no_more().await?;
    }
    let ended = chaos::outcome(kit, &person, &evaluation).await?;
    let causes: Vec<_> = ended.tried().map(|attempt| attempt.cause).collect();
    ensure!(
        causes == [Some(how.cause()), Some(Cause::Completed)],
        "{causes:?}: {:#?}",
        ended.attempts
    );
    ensure!(
        ended.run.score == Some(1.0) && ended.run.cost == PicoUsd::ZERO,
        "{:#?}",
        ended.run
    );
    let words = ended
        .attempts
        .first()
        .and_then(|first| first.detail.clone())
        .context("words")?;
    eprintln!("{how:?}: {words}");
    Ok(())
}

fn evict(kit: &Installation<Cluster>, pod: &str) -> anyhow::Result<()> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": "assay-sandboxes"},
    });
    let path = format!("/api/v1/namespaces/assay-sandboxes/pods/{pod}/eviction");
    kit.ground
        .admin
        .ok(&["create", "--raw", &path, "-f", "-"], Some(&eviction))
        .map(|_| ())
}

/// A pod of a higher priority that fits only in the place of the sandbox. It goes with it.
struct MoreImportant<'a> {
    kit: &'a Installation<Cluster>,
    name: String,
}

impl<'a> MoreImportant<'a> {
    async fn than(kit: &'a Installation<Cluster>, pod: &str) -> anyhow::Result<Self> {
        let admin = &kit.ground.admin;
        let made = Self {
            kit,
            name: format!("more-{}", std::process::id()),
        };
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": made.name}, "value": 1_000_000, "globalDefault": false,
        });
        admin.ok(&["create", "-f", "-"], Some(&class))?;
        // An amount that only this node has, all of which the sandbox's own claim leaves but a little of.
        let free = free_cpu(kit)?;
        let wanted = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": made.name, "namespace": "default"},
            "spec": {
                "priorityClassName": made.name, "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": "python:3.12-slim", "command": ["sleep", "1000000"],
                    "resources": {"requests": {"cpu": format!("{}m", free + 20)}},
                }],
            },
        });
        admin.ok(&["create", "-f", "-"], Some(&wanted))?;
        let gone = [
            "wait",
            "--for=delete",
            "pod",
            pod,
            "-n",
            "assay-sandboxes",
            "--timeout=300s",
        ];
        admin.ok(&gone, None)?;
        Ok(made)
    }
}

impl Drop for MoreImportant<'_> {
    fn drop(&mut self) {
        let admin = &self.kit.ground.admin;
        admin.run(
            &["delete", "pod", &self.name, "-n", "default", "--ignore-not-found"],
            None,
        );
        admin.run(
            &["delete", "priorityclass", &self.name, "--ignore-not-found"],
            None,
        );
    }
}

/// CPU that no pod of the one node has asked for, thousandths.
fn free_cpu(kit: &Installation<Cluster>) -> anyhow::Result<i64> {
    let admin = &kit.ground.admin;
    let milli = |text: &str| -> anyhow::Result<i64> {
        Ok(match text.strip_suffix('m') {
            Some(milli) => milli.parse()?,
            None => text.parse::<i64>()? * 1_000,
        })
    };
    let has = admin.ok(
        &[
            "get",
            "nodes",
            "-o",
            "jsonpath={.items[0].status.allocatable.cpu}",
        ],
        None,
    )?;
    let asked = admin.ok(
        &[
            "get",
            "pods",
            "-A",
            // What no node has taken yet takes nothing from this one.
            "--field-selector=spec.nodeName=node1,status.phase!=Succeeded,status.phase!=Failed",
            "-o",
            "jsonpath={range .items[*]}{range .spec.containers[*]}{.resources.requests.cpu}{\"\\n\"}{end}{end}",
        ],
        None,
    )?;
    let asked: anyhow::Result<i64> = asked.lines().filter(|line| !line.is_empty()).map(milli).sum();
    Ok(milli(&has)? - asked?)
}

/// Longer than the grace of a node's lease: the node is not ready meanwhile, its sandbox goes on, and so does the run. Two
/// minutes, so only where `ASSAY_TEST_KUBE_SLOW` is set.
#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_stops_for_two_minutes_costs_no_attempt() {
    if !is_slow() {
        return;
    }
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let node = node(&kit);
    let agent = shell_agent("touch /tmp/works\nsleep 100\necho 42 >answer.txt\n");
    let order = person
        .order(&runs::task_of_an_image(), Some(&agent), Policy::default())
        .await
        .unwrap();
    let evaluation = person.submit(&order).await.unwrap();
    chaos::works(&kit, &person, &evaluation).await.unwrap();
    node.signal("kubelet", "STOP").unwrap();
    let stopped = async {
        let not_ready = [
            "wait",
            "--for=condition=Ready=Unknown",
            "node/node1",
            "--timeout=110s",
        ];
        let told = tokio::task::spawn_blocking({
            let admin = kit.ground.admin.clone();
            move || admin.ok(&not_ready, None)
        });
        let told = told.await.unwrap();
        tokio::time::sleep(Duration::from_secs(120).saturating_sub(Duration::from_secs(60))).await;
        told
    };
    let told = stopped.await;
    node.signal("kubelet", "CONT").unwrap();
    told.unwrap();
    let ended = chaos::outcome(&kit, &person, &evaluation).await.unwrap();
    assert_eq!(
        (ended.run.score, ended.attempts.len(), ended.run.cost),
        (Some(1.0), 1, PicoUsd::ZERO),
        "{ended:#?}"
    );
}
