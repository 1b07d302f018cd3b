//! A task as the driver needs it: effective limits, environments resolved, files on disk.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use assay_core::{egress::Egress, limits::Limits, phase::EgressPhase};

use crate::row::{Outline, StepOutline, seconds};

/// What is done for one attempt of a task.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the environment comes from.
    pub image: PlannedImage,
    /// Files of `environment/` that are uploaded into the working directory of a ready-made image.
    pub loose_files: Option<PathBuf>,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// The environment of everything that runs.
    pub env: BTreeMap<String, String>,
    /// Run after the start.
    pub healthcheck: Option<Healthcheck>,
    /// The effective limits.
    pub limits: Limits,
    /// What the task asks for in each egress phase; the policy decides.
    pub egress: BTreeMap<EgressPhase, Egress>,
    /// At least one.
    pub steps: Vec<StepPlan>,
    /// The last step's reward counts alone.
    pub final_only: bool,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedImage {
    /// Used as it is.
    Named(String),
    /// Built from this folder with its `Dockerfile`.
    Built(PathBuf),
}

/// One step; a task without steps has one.
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// What the agent is asked to do.
    pub instruction: String,
    /// Files that are put into the working directory first.
    pub workdir: Option<PathBuf>,
    /// `setup.sh` is among them.
    pub has_setup_script: bool,
    /// Run before the agent.
    pub healthcheck: Option<Healthcheck>,
    /// Who the agent is; the image's user when absent.
    pub agent_user: Option<String>,
    /// The longest that the agent may take.
    pub agent_limit: Duration,
    /// Who runs the tests; the image's user when absent.
    pub verifier_user: Option<String>,
    /// The environment of the tests.
    pub verifier_env: BTreeMap<String, String>,
    /// The longest that the tests may take.
    pub verifier_limit: Duration,
    /// The tests get a sandbox of their own.
    pub separate: bool,
    /// The image of that sandbox, when it is not the environment's. It owns `/tests` then.
    pub verifier_image: Option<PathBuf>,
    /// Folders that become `/tests`, later ones over earlier ones.
    pub tests: Vec<PathBuf>,
    /// The folder that becomes `/solution`.
    pub solution: Option<PathBuf>,
    /// The environment of the solution.
    pub solution_env: BTreeMap<String, String>,
    /// What is taken from the sandbox after the agent.
    pub artifacts: Vec<PlannedArtifact>,
    /// Absolute paths that are brought into a separate verifier's sandbox.
    pub carry: Vec<String>,
    /// Commands that run after the agent; they never fail the attempt.
    pub hooks: Vec<Hook>,
    /// Below any of these the later steps are not run.
    pub min_reward: BTreeMap<String, f64>,
}

/// Something that is taken from the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedArtifact {
    /// Where it is, absolute.
    pub source: String,
    /// Globs that are left out.
    pub exclude: Vec<String>,
}

/// A command that runs after the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// For a shell.
    pub command: String,
    /// The longest that it may take.
    pub limit: Duration,
    /// Who runs it.
    pub user: Option<String>,
}

/// As Docker's HEALTHCHECK.
#[derive(Debug, Clone, PartialEq)]
pub struct Healthcheck {
    /// For a shell.
    pub command: String,
    /// Between two checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Failures within this time after the start do not count.
    pub start_period: Duration,
    /// Between two checks within that time.
    pub start_interval: Duration,
    /// Failures in a row that count as unhealthy.
    pub retries: u32,
}

impl Healthcheck {
    /// The longest that it can take until it has passed or failed.
    pub fn limit(&self) -> Duration {
        self.start_period + (self.interval + self.timeout) * self.retries.max(1) + self.timeout
    }
}

impl Plan {
    /// What decides about the order of phases. `install` is the agent's install time, if it has a command for that.
    pub fn outline(&self, install: Option<Duration>) -> Outline {
        Outline {
            health: self.healthcheck.is_some(),
            health_limit: self
                .healthcheck
                .as_ref()
                .map_or(Duration::ZERO, Healthcheck::limit),
            limits: self.limits.clone(),
            final_only: self.final_only,
            steps: self
                .steps
                .iter()
                .enumerate()
                .map(|(index, step)| step.outline(install.filter(|_| index == 0), &self.limits))
                .collect(),
        }
    }
}

impl StepPlan {
    fn outline(&self, install: Option<Duration>, limits: &Limits) -> StepOutline {
        let checks = self
            .healthcheck
            .as_ref()
            .map_or(Duration::ZERO, Healthcheck::limit);
        let script = if self.has_setup_script {
            seconds(limits.setup_sec)
        } else {
            Duration::ZERO
        };
        let hooks: Duration = self.hooks.iter().map(|hook| hook.limit).sum();
        let fresh = if self.separate {
            seconds(limits.start_sec) + seconds(limits.build_sec)
        } else {
            Duration::ZERO
        };
        StepOutline {
            setup: install.is_some() || self.workdir.is_some() || self.healthcheck.is_some(),
            setup_limit: install.unwrap_or_default() + script + checks,
            agent_limit: self.agent_limit,
            collect_limit: hooks + seconds(limits.collect_sec),
            verify_limit: fresh + self.verifier_limit,
            separate: self.separate,
            min_reward: self.min_reward.clone(),
        }
    }
}
