//! KEDA counts the screeners of the control plane: from none to what the work needs and back to none, without ever taking away
//! one that is busy. And what becomes of runs when KEDA is stopped, or hears nothing from the API.
//!
//! `ASSAY_TEST_KUBE_KEDA` says that it is there (cluster/keda.sh). The objects are those of `manifests/components/keda` with
//! shorter waits. What happens is printed as a timeline.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use assay_cli::{api::Api, profile::Profile};
use assay_core::{
    cause::Cause,
    policy::Policy,
    wire::people::{Evaluation, Run, RunState},
};
use assay_tests::{
    installation::files::shell_agent,
    kubectl::Kubectl,
    person::{Ended, Order, Person},
};
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use super::{
    control_plane::{self, ALONE},
    runs,
};

#[tokio::test(flavor = "multi_thread")]
async fn screeners_come_with_the_work_and_go_after_it_and_nobody_busy_is_taken_away() {
    let Some(mut scaled) = Scaled::begin().await else {
        return;
    };
    scaled.check_walk().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_end_while_the_operator_is_stopped() {
    let Some(mut scaled) = Scaled::begin().await else {
        return;
    };
    scaled.check_without_operator().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_does_not_answer_nobody_is_taken_away_and_one_is_started() {
    let Some(mut scaled) = Scaled::begin().await else {
        return;
    };
    scaled.check_without_api().await.unwrap();
}

impl Scaled {
    /// Six runs want three screeners of two slots. Then all end but one, of the highest: two idle screeners below it are not
    /// reason enough to lose it.
    async fn check_walk(&mut self) -> anyhow::Result<()> {
        self.none().await?;
        self.submit(6).await?;
        self.until("three screeners, six runs", |now| {
            now.wanted == 3 && now.runs("running") == 6
        })
        .await?;
        let last = self.held_by("screener-1-2").await?;
        self.end(|run| run.id != last.id, 5).await?;
        self.stays(3).await?;
        self.end(|_| true, 6).await?;
        self.none().await?;
        self.outcomes().await
    }

    /// The screener that is there does all that is there, and all that comes.
    async fn check_without_operator(&mut self) -> anyhow::Result<()> {
        self.none().await?;
        self.submit(2).await?;
        self.until("one screener, two runs", |now| now.runs("running") == 2)
            .await?;
        self.stop("keda", "deployment/keda-operator")?;
        self.submit(2).await?;
        self.stays(1).await?;
        self.end(|_| true, 4).await?;
        self.start("keda", "deployment/keda-operator", 1)?;
        self.none().await?;
        self.outcomes().await
    }

    /// Three busy screeners are kept while nobody tells KEDA that they are needed, and where there is none, one is started: for
    /// what may be waiting.
    async fn check_without_api(&mut self) -> anyhow::Result<()> {
        self.none().await?;
        self.submit(6).await?;
        self.until("three screeners, six runs", |now| {
            now.wanted == 3 && now.runs("running") == 6
        })
        .await?;
        self.stop("assay-system", "deployment/api")?;
        self.stays(3).await?;
        self.start_api().await?;
        self.end(|_| true, 6).await?;
        self.none().await?;
        self.stop("assay-system", "deployment/api")?;
        self.until("one screener in case", |now| now.wanted == 1).await?;
        self.start_api().await?;
        self.none().await?;
        self.outcomes().await
    }
}

/// The control plane with its screeners in KEDA's hands. Dropping it takes them back.
struct Scaled {
    kubectl: Kubectl,
    person: Person,
    order: Order,
    submitted: Vec<Evaluation>,
    begun: Instant,
    told: String,
    _alone: MutexGuard<'static, ()>,
}

/// How things are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Now {
    /// Screeners of class 1 that there are to be.
    wanted: u64,
    /// Those that are ready.
    ready: u64,
    /// States of runs; empty while the API does not answer.
    states: Vec<&'static str>,
}

impl Now {
    fn runs(&self, state: &str) -> usize {
        self.states.iter().filter(|found| **found == state).count()
    }
}

impl Scaled {
    async fn begin() -> Option<Self> {
        if std::env::var_os("ASSAY_TEST_KUBE_KEDA").is_none() {
            eprintln!("skipped: ASSAY_TEST_KUBE_KEDA is not set (tests/cluster/keda.sh)");
            return None;
        }
        let installation = control_plane::installation()?;
        let alone = ALONE.lock().await;
        let profile = Profile::new(&installation.api, &installation.key).unwrap();
        let person = Person {
            api: Api::new(profile),
        };
        let agent = shell_agent(AGENT);
        let order = person
            .order(&runs::task_of_an_image(), Some(&agent), Policy::default())
            .await
            .unwrap();
        let scaled = Self {
            kubectl: installation.kubectl,
            person,
            order,
            submitted: Vec::new(),
            begun: Instant::now(),
            told: String::new(),
            _alone: alone,
        };
        scaled.hand_over().unwrap();
        Some(scaled)
    }

    /// The manifests as they are; then, what takes minutes takes seconds.
    fn hand_over(&self) -> anyhow::Result<()> {
        let file = manifest();
        let file = file.to_str().context("a path")?;
        self.kubectl.ok(&["apply", "--server-side", "-f", file], None)?;
        for name in ["screener-1", "screener-2"] {
            let object = format!("scaledobject/{name}");
            let ready = [
                "wait",
                "-n",
                "assay-system",
                "--for=condition=Ready",
                &object,
                "--timeout=300s",
            ];
            self.kubectl.ok(&ready, None)?;
            let sooner = json!({"spec": {
                "pollingInterval": 2, "cooldownPeriod": 5,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {
                    "stabilizationWindowSeconds": 5,
                    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 5}],
                }}}},
            }});
            let words = ["patch", "-n", "assay-system", &object, "--type=merge", "-p"];
            self.kubectl
                .ok(&[&words[..], &[&sooner.to_string()]].concat(), None)?;
        }
        Ok(())
    }

    async fn submit(&mut self, number: usize) -> anyhow::Result<()> {
        for _ in 0..number {
            self.submitted.push(self.person.submit(&self.order).await?);
        }
        Ok(())
    }

    /// All runs, in the order of their submission.
    async fn runs(&self) -> anyhow::Result<Vec<Run>> {
        let mut all = Vec::new();
        for evaluation in &self.submitted {
            all.extend(self.person.api.runs(evaluation.id).await?);
        }
        Ok(all)
    }

    async fn now(&mut self) -> anyhow::Result<Now> {
        let words = [
            "get",
            "statefulset",
            "screener-1",
            "-n",
            "assay-system",
            "-o",
            "json",
        ];
        let set: Value = serde_json::from_str(&self.kubectl.ok(&words, None)?)?;
        let states = self.runs().await.unwrap_or_default();
        let now = Now {
            wanted: set["spec"]["replicas"].as_u64().context("a count")?,
            ready: set["status"]["readyReplicas"].as_u64().unwrap_or(0),
            states: states.iter().map(|run| name(run.state)).collect(),
        };
        let line = format!(
            "{} screeners wanted, {} ready; runs: {} queued, {} running, {} ended",
            now.wanted,
            now.ready,
            now.runs("queued"),
            now.runs("running"),
            now.runs("ended"),
        );
        if line != self.told {
            eprintln!("+{:5.1} s  {line}", self.begun.elapsed().as_secs_f64());
            self.told = line;
        }
        Ok(now)
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Now) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let now = self.now().await?;
            if wanted(&now) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}: {now:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// No screener is there.
    async fn none(&mut self) -> anyhow::Result<()> {
        self.until("no screener", |now| (now.wanted, now.ready) == (0, 0))
            .await
    }

    /// For longer than the scaler needs to take one away, there are never fewer.
    async fn stays(&mut self, least: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < SCALE_IN {
            let now = self.now().await?;
            ensure!(now.wanted >= least, "one was taken away: {now:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// A run that a worker holds.
    async fn held_by(&self, worker: &str) -> anyhow::Result<Run> {
        for run in self.runs().await? {
            let attempts = self.person.api.attempts(run.id).await?;
            if attempts.last().is_some_and(|attempt| attempt.worker == worker) {
                return Ok(run);
            }
        }
        anyhow::bail!("{worker} holds nothing")
    }

    /// Lets agents go on until so many runs have ended.
    async fn end(&mut self, which: impl Fn(&Run) -> bool, number: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.now().await?.runs("ended") < number {
            // An API that has just come back may miss a question; it is asked again.
            let runs = self.runs().await.unwrap_or_default();
            for run in runs
                .iter()
                .filter(|run| run.state == RunState::Running && which(run))
            {
                // One whose agent does not work yet is met again.
                self.kubectl.in_sandbox(run.id, &["touch", "/tmp/go"]);
            }
            ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {runs:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// One attempt each, which solved its task.
    async fn outcomes(&self) -> anyhow::Result<()> {
        for run in self.runs().await? {
            let attempts = self.person.api.attempts(run.id).await?;
            let ended = Ended { run, attempts };
            let causes: Vec<_> = ended.tried().map(|attempt| attempt.cause).collect();
            let run = &ended.run;
            ensure!(causes == [Some(Cause::Completed)], "{causes:?}: {run:?}");
            ensure!(
                (run.state, run.score) == (RunState::Finished, Some(1.0)),
                "{run:?}"
            );
        }
        Ok(())
    }

    fn stop(&self, namespace: &str, what: &str) -> anyhow::Result<()> {
        eprintln!("+{:5.1} s  {what} is stopped", self.begun.elapsed().as_secs_f64());
        self.kubectl
            .ok(&["scale", "-n", namespace, what, "--replicas=0"], None)?;
        let label = if namespace == "keda" {
            "app=keda-operator"
        } else {
            "app.kubernetes.io/name=api"
        };
        let kill = [
            "delete",
            "pod",
            "-n",
            namespace,
            "-l",
            label,
            "--grace-period=1",
            "--wait",
            "--ignore-not-found",
        ];
        self.kubectl.ok(&kill, None).map(|_| ())
    }

    fn start(&self, namespace: &str, what: &str, replicas: u32) -> anyhow::Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl
            .ok(&["scale", "-n", namespace, what, &replicas], None)?;
        let ready = ["rollout", "status", "-n", namespace, what, "--timeout=300s"];
        self.kubectl.ok(&ready, None)?;
        eprintln!(
            "+{:5.1} s  {what} is there again",
            self.begun.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

impl Scaled {
    /// Its address leads to it again a moment after its pods are ready.
    async fn start_api(&mut self) -> anyhow::Result<()> {
        self.start("assay-system", "deployment/api", 2)?;
        self.until("the API answers", |now| !now.states.is_empty()).await
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        let file = manifest();
        for (namespace, what, replicas) in [
            ("keda", "deployment/keda-operator", 1),
            ("assay-system", "deployment/api", 2),
        ] {
            drop(self.start(namespace, what, replicas));
        }
        let gone = ["delete", "--ignore-not-found", "--timeout=300s", "-f"];
        self.kubectl
            .run(&[&gone[..], &[&file.display().to_string()]].concat(), None);
        for what in ["statefulset/screener-1", "statefulset/screener-2"] {
            drop(self.start("assay-system", what, 1));
        }
    }
}

fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/components/keda/scaled-objects.yaml")
}

fn name(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        _ => "ended",
    }
}

/// Longer than the pod autoscaler's own round of 15 s, the window and the period above, twice over.
const SCALE_IN: Duration = Duration::from_secs(45);
/// Guards against hanging alone: six sandboxes on a busy node of two cores, with three rounds of the autoscaler.
const PATIENCE: Duration = Duration::from_mins(10);
const LOOK: Duration = Duration::from_millis(300);
/// Waits to be let go.
const AGENT: &str = "until [ -e /tmp/go ]; do sleep 0.1; done\necho 42 >answer.txt\n";
