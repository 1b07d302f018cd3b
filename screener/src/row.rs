//! The row of an attempt as its driver keeps it: where it stands, and what must be remembered between phases.
//!
//! It travels in [`Progress`] so that another worker can go on from it. Nothing else survives a restart.

use std::{collections::BTreeMap, time::Duration};

use assay_core::{
    agent::Contract,
    cause::Cause,
    control::proxy::Ledger,
    digest::Digest,
    limits::Limits,
    phase::Phase,
    wire::worker::{Assignment, Progress, ResourceUse},
};
use serde::{Deserialize, Serialize};

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// How the agent is run.
    pub contract: Contract,
    /// What holds until the task is read.
    pub defaults: Limits,
    /// The step, from 0.
    pub step: u32,
    /// The phase under way.
    pub phase: Phase,
    /// What was learned in earlier phases.
    pub memo: Memo,
}

/// What was learned in earlier phases.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memo {
    /// The task's shape; known after `prepare`.
    pub outline: Option<Outline>,
    /// The first fault of the agent that still lets its work be verified.
    pub fault: Option<Note>,
    /// The rewards of the steps that were verified.
    pub rewards: Vec<BTreeMap<String, f64>>,
    /// True once a verifier has run.
    pub verified: bool,
    /// Where the output of each execution of this phase begins in the phase's streams.
    pub bases: BTreeMap<String, Base>,
    /// What the agent's phases put into the account.
    pub ledger: Ledger,
    /// What the verifier's phases put into the account.
    pub verifier_ledger: Ledger,
    /// The account of the agent's sandbox when it was last read.
    pub last: Ledger,
    /// What the sandboxes used so far.
    pub usage: ResourceUse,
    /// The image, once it is there.
    pub image: Option<String>,
    /// Those of the services beside it, by name.
    pub services: BTreeMap<String, String>,
    /// The shells of the image before the agent's first command, by path.
    pub shell: BTreeMap<String, Digest>,
    /// The diff that was taken from the sandbox.
    pub patch: Option<Digest>,
    /// The way in which the last verifier ran.
    pub mode: Option<Mode>,
    /// Before the verifier began, the agent's sandbox was seen to hold no more than it may.
    pub disk_clear: bool,
    /// How the attempt ends; set when the last phase begins.
    pub closing: Option<Closing>,
}

/// Where a verifier ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In the agent's sandbox.
    Shared,
    /// In a sandbox of its own.
    Separate,
}

impl Mode {
    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Separate => "separate",
        }
    }
}

/// A cause and a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The cause.
    pub cause: Cause,
    /// For people.
    pub detail: String,
}

/// Offsets at which an execution's own streams begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    /// In the phase's standard output.
    pub stdout: u64,
    /// In the phase's standard error.
    pub stderr: u64,
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    /// The cause.
    pub cause: Cause,
    /// For people.
    pub detail: String,
    /// The reward by key, where there is one.
    pub rewards: Option<BTreeMap<String, f64>>,
    /// The score, where there is one.
    pub score: Option<f64>,
}

/// What decides about the order of phases in a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outline {
    /// The environment has a healthcheck.
    pub health: bool,
    /// The longest that the healthcheck can take.
    pub health_limit: Duration,
    /// The longest that the services beside main can take to get ready.
    #[serde(default)]
    pub services_limit: Duration,
    /// The effective limits of the attempt.
    pub limits: Limits,
    /// At least one.
    pub steps: Vec<StepOutline>,
    /// The last step's reward counts alone, instead of the mean.
    pub final_only: bool,
}

/// What decides about the order of phases in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutline {
    /// Something is installed, uploaded or checked before the agent.
    pub setup: bool,
    /// The longest that this may take.
    pub setup_limit: Duration,
    /// The longest that the agent may take.
    pub agent_limit: Duration,
    /// The longest that collecting may take.
    pub collect_limit: Duration,
    /// The longest that the verifier may take.
    pub verify_limit: Duration,
    /// The verifier gets a sandbox of its own.
    pub separate: bool,
    /// Below any of these the later steps are not run.
    pub min_reward: BTreeMap<String, f64>,
}

impl Row {
    /// The row of an assignment: fresh, or where a worker before this one had got to.
    ///
    /// A memo that cannot be read starts the phase's work from nothing known, which ends in a fault of the platform.
    pub fn of(assignment: &Assignment, defaults: &Limits) -> Self {
        let progress = assignment.adopted.as_ref();
        Self {
            contract: assignment.contract,
            defaults: defaults.clone(),
            step: progress.map_or(0, |progress| progress.step),
            phase: progress
                .and_then(|progress| progress.phase)
                .unwrap_or(Phase::Prepare),
            memo: progress
                .and_then(|progress| serde_json::from_value(progress.memo.clone()).ok())
                .unwrap_or_default(),
        }
    }

    /// The step's outline, when the task is read.
    pub fn step_outline(&self) -> Option<&StepOutline> {
        let outline = self.memo.outline.as_ref()?;
        outline.steps.get(usize::try_from(self.step).ok()?)
    }

    /// The longest that the phase under way may take, beside the time for uploads and downloads.
    pub fn limit(&self) -> Duration {
        let outline = self.memo.outline.as_ref();
        let limits = outline.map_or(&self.defaults, |outline| &outline.limits);
        let of_step = |pick: fn(&StepOutline) -> Duration| self.step_outline().map_or(Duration::ZERO, pick);
        match self.phase {
            Phase::Prepare => seconds(limits.build_sec) + PREPARE_SLACK,
            Phase::Start => {
                let services = outline.map_or(Duration::ZERO, |outline| outline.services_limit);
                seconds(limits.start_sec) + services
            }
            Phase::Health => outline.map_or(Duration::ZERO, |outline| outline.health_limit),
            Phase::Setup => of_step(|step| step.setup_limit),
            Phase::Agent => of_step(|step| step.agent_limit),
            Phase::Collect => of_step(|step| step.collect_limit),
            Phase::Verify => of_step(|step| step.verify_limit),
            Phase::Report => REPORT_LIMIT,
        }
    }

    /// What is stored of this row; the driver adds sandbox, generation, event number and offsets.
    pub fn progress(&self) -> Progress {
        Progress {
            step: self.step,
            phase: Some(self.phase),
            memo: serde_json::to_value(&self.memo).unwrap_or_default(),
            ..Progress::default()
        }
    }
}

/// Seconds as a duration; what is no time at all becomes zero.
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// For fetching and unpacking the archives and computing the image's key.
const PREPARE_SLACK: Duration = Duration::from_mins(10);
/// For the last uploads.
const REPORT_LIMIT: Duration = Duration::from_mins(10);
