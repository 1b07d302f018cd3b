//! A task under a policy and the operator's limits, for one kind of agent: everything decided, only to be executed.

mod gpus;
mod network;
mod services;
mod verifier;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use gpus::{GpuSupport, Gpus};
pub use verifier::{Mode, Separate, SeparateImage, VerifierPlan};

use super::{
    StepFiles, Task,
    compose::{Compose, Service},
    config::{Agent, Artifact, Collect, Environment, Healthcheck, McpServer, MinReward, Step, Strategy},
    template::{self, Unresolved},
};
use crate::{
    agent::Contract,
    cause::Cause,
    egress::Egress,
    limits::{LimitSettings, Limits, effective},
    phase::EgressPhase,
    policy::Policy,
    reward::{Rewards, mean_of_steps},
};

/// What a plan is made from, beside the task.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// How the agent is run.
    pub contract: Contract,
    /// What the run may reach and spend.
    pub policy: &'a Policy,
    /// The operator's defaults and maxima.
    pub settings: &'a LimitSettings,
    /// The evaluation's named values.
    pub values: &'a BTreeMap<String, String>,
    /// What the engine does for tasks that ask for GPUs.
    pub gpus: GpuSupport,
}

/// A run, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The task's name.
    pub name: String,
    /// What the sandbox is made of.
    pub image: Image,
    /// Put the loose files of `environment/` into the working directory after the start.
    pub uploads_environment: bool,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// Environment of every process.
    pub env: BTreeMap<String, String>,
    /// The containers beside the task's own one.
    pub services: Vec<Service>,
    /// Passed after the start, before the agent is installed.
    pub healthcheck: Option<Healthcheck>,
    /// A folder of the image whose skills the agent may use; told to it as `ASSAY_SKILLS_DIR`.
    pub skills_dir: Option<String>,
    /// Servers of tools that the agent may use; told to it in a file that `ASSAY_MCP_CONFIG` names.
    pub mcp_servers: Vec<McpServer>,
    /// Times and sizes of the agent's sandbox. Those of agent and verifier stand with each step.
    pub limits: Limits,
    /// Of the agent's sandbox. No operator's maximum holds for them: a task with fewer than it asks for is another task.
    pub gpus: Gpus,
    /// While the image is built.
    pub build_egress: Egress,
    /// While the agent is installed and while a step's `setup.sh` runs.
    pub setup_egress: Egress,
    /// One or more, in order.
    pub steps: Vec<StepPlan>,
    /// How their rewards become one.
    pub strategy: Strategy,
}

/// What a sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// Built from this folder of the task, with its `Dockerfile`.
    Build {
        /// The folder.
        context: String,
    },
    /// Made elsewhere.
    Prebuilt {
        /// Its name.
        image: String,
    },
}

/// One step, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// Where its parts are in the folder, and the instruction.
    pub files: StepFiles,
    /// Passed after the step's setup, before the agent.
    pub healthcheck: Option<Healthcheck>,
    /// The agent's phase.
    pub agent: AgentPlan,
    /// Run after the agent, best effort: a failure ends nothing.
    pub collect: Vec<Collect>,
    /// What is kept, and what a separate verifier gets. A relative source stands below the working directory.
    pub artifacts: Vec<Artifact>,
    /// The verifier's phase.
    pub verifier: VerifierPlan,
    /// Below it (or without a result) the remaining steps are not run.
    pub min_reward: BTreeMap<String, f64>,
}

/// The agent's phase, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentPlan {
    /// Who it runs as; the image's user when absent.
    pub user: Option<String>,
    /// Its deadline, seconds.
    pub timeout_sec: f64,
    /// What it may reach beside its models.
    pub egress: Egress,
    /// For the oracle only: the solution's environment, which wins over all other.
    pub solution_env: BTreeMap<String, String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    /// A template asks for a value that the evaluation does not give.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// A host of the task is no pattern of ours.
    #[error("{0}")]
    Host(String),
    /// The oracle has nothing to run.
    #[error("{0}/solve.sh is missing: the oracle runs it")]
    NoSolution(String),
    /// The containers ask for more together than the operator lets a sandbox have.
    #[error("{0}")]
    TooMuch(String),
    /// The task asks for GPUs, and the engine does not hand them out so.
    #[error("task.toml: {key}: {reason}")]
    Gpus {
        /// The key's path.
        key: String,
        /// What is not done, and where it would be.
        reason: &'static str,
    },
    /// A patch agent gives one diff, a task of several steps wants several.
    #[error("steps: a patch agent works only on tasks of one step")]
    PatchOnSteps,
    /// A separate verifier would get nothing.
    #[error(
        "verifier: separate is asked for, but the task declares no artifacts and the policy carries no path"
    )]
    SeparateNotPossible,
}

impl Unplannable {
    /// Why the attempt ends.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Unresolved(_)
            | Self::Host(_)
            | Self::NoSolution(_)
            | Self::TooMuch(_)
            | Self::Gpus { .. }
            | Self::PatchOnSteps => Cause::TaskInvalid,
            Self::SeparateNotPossible => Cause::SeparateNotPossible,
        }
    }
}

impl Plan {
    /// Decides everything.
    pub fn of(task: &Task, given: &Circumstances<'_>) -> Result<Self, Unplannable> {
        let config = &task.config;
        if given.contract == Contract::Patch && task.steps.len() > 1 {
            return Err(Unplannable::PatchOnSteps);
        }
        let environment = &config.environment;
        let baseline = network::baseline(environment)?;
        let limits = limits(environment, given);
        services::check(&task.compose, &limits, given)?;
        Ok(Self {
            name: task.name.clone(),
            image: image(task),
            uploads_environment: task.uploads_environment,
            workdir: environment.workdir.clone(),
            env: env("environment.env", environment, &task.compose, given)?,
            services: task.compose.services.clone(),
            healthcheck: environment.healthcheck.clone(),
            skills_dir: environment.skills_dir.clone(),
            mcp_servers: environment.mcp_servers.clone(),
            limits,
            gpus: gpus::of(environment, "environment", given.gpus)?,
            build_egress: given.policy.egress(EgressPhase::Build, &baseline),
            setup_egress: given.policy.egress(EgressPhase::Setup, &baseline),
            steps: task
                .steps
                .iter()
                .enumerate()
                .map(|(index, files)| step(task, index, files, given))
                .collect::<Result<_, _>>()?,
            strategy: config.multi_step_reward_strategy.unwrap_or_default(),
        })
    }

    /// The reward of the run out of those of its steps, as far as they were run. `None` where no step has one.
    pub fn reward(&self, steps: &[Option<Rewards>]) -> Option<Rewards> {
        match (self.steps.len(), self.strategy) {
            (0 | 1, _) | (_, Strategy::Final) => steps.last().cloned().flatten(),
            (_, Strategy::Mean) => mean_of_steps(steps),
        }
    }
}

impl StepPlan {
    /// May the next step begin after this result? Otherwise a sentence says why not.
    pub fn gate(&self, rewards: Option<&Rewards>) -> Result<(), String> {
        for (key, least) in &self.min_reward {
            match rewards.and_then(|rewards| rewards.get(key)) {
                Some(actual) if actual >= least => {}
                Some(actual) => return Err(format!("{key} = {actual} is below min_reward {least}")),
                None => return Err(format!("there is no {key}, and min_reward is {least}")),
            }
        }
        Ok(())
    }
}

fn step(
    task: &Task,
    index: usize,
    files: &StepFiles,
    given: &Circumstances<'_>,
) -> Result<StepPlan, Unplannable> {
    let config = &task.config;
    let step = config.steps.as_deref().and_then(|steps| steps.get(index));
    let artifacts: Vec<Artifact> = config
        .artifacts
        .iter()
        .chain(step.iter().flat_map(|step| &step.artifacts))
        .cloned()
        .collect();
    let verifier = verifier::plan(task, step, files, &artifacts, given)?;
    let hooks = step.iter().flat_map(|step| &step.verifier.collect);
    Ok(StepPlan {
        files: files.clone(),
        healthcheck: step.and_then(|step| step.healthcheck.clone()),
        agent: agent(task, step, files, given)?,
        collect: config.verifier.collect.iter().chain(hooks).cloned().collect(),
        artifacts: with_convention(artifacts),
        verifier,
        min_reward: match step.and_then(|step| step.min_reward.clone()) {
            None => BTreeMap::new(),
            Some(MinReward::One(least)) => BTreeMap::from([(crate::reward::KEY.to_owned(), least)]),
            Some(MinReward::Keys(keys)) => keys,
        },
    })
}

/// The folder that is always collected comes first, unless the task lists it itself.
fn with_convention(mut artifacts: Vec<Artifact>) -> Vec<Artifact> {
    if !artifacts
        .iter()
        .any(|artifact| artifact.source.trim_end_matches('/') == ARTIFACTS)
    {
        let source = ARTIFACTS.to_owned();
        artifacts.insert(
            0,
            Artifact {
                source,
                destination: None,
                exclude: Vec::new(),
                service: None,
            },
        );
    }
    artifacts
}

fn agent(
    task: &Task,
    step: Option<&Step>,
    files: &StepFiles,
    given: &Circumstances<'_>,
) -> Result<AgentPlan, Unplannable> {
    let config = &task.config;
    let of_step = |read: fn(&Agent) -> Option<f64>| step.and_then(|step| read(&step.agent));
    let asked = of_step(|agent| agent.timeout_sec).or(config.agent.timeout_sec);
    let user = step
        .and_then(|step| step.agent.user.as_ref())
        .or(config.agent.user.as_ref());
    let asked_egress = network::agent(config, step)?;
    let is_oracle = given.contract == Contract::Oracle;
    if is_oracle && files.solution.is_none() {
        let folder = files.name.as_ref();
        let folder = folder.map_or_else(|| "solution".to_owned(), |name| format!("steps/{name}/solution"));
        return Err(Unplannable::NoSolution(folder));
    }
    let LimitSettings { default, maximum } = given.settings;
    let time = &given.policy.time;
    Ok(AgentPlan {
        user: user.map(ToString::to_string),
        timeout_sec: effective(
            time.agent_sec.or(asked),
            default.agent_sec,
            maximum.agent_sec,
            time.multiplier,
        ),
        egress: given.policy.egress(EgressPhase::Agent, &asked_egress),
        solution_env: if is_oracle {
            template::resolve_all("solution.env", &config.solution.env, given.values)?
        } else {
            BTreeMap::new()
        },
    })
}

fn image(task: &Task) -> Image {
    match &task.config.environment.docker_image {
        Some(image) if !task.has_dockerfile => Image::Prebuilt { image: image.clone() },
        _ => Image::Build {
            context: "environment".to_owned(),
        },
    }
}

/// Environment of every process: the task's over the compose file's.
fn env(
    key: &str,
    environment: &Environment,
    compose: &Compose,
    given: &Circumstances<'_>,
) -> Result<BTreeMap<String, String>, Unresolved> {
    let mut all = compose.main_env.clone();
    all.extend(template::resolve_all(key, &environment.env, given.values)?);
    Ok(all)
}

/// Times and sizes of one environment. Agent and verifier get the policy's or the default time.
fn limits(environment: &Environment, given: &Circumstances<'_>) -> Limits {
    let LimitSettings { default, maximum } = given.settings;
    let time = &given.policy.time;
    let factor = time.multiplier;
    let build = Some(environment.build_timeout_sec);
    Limits {
        build_sec: effective(build, default.build_sec, maximum.build_sec, factor),
        start_sec: effective(None, default.start_sec, maximum.start_sec, factor),
        setup_sec: effective(None, default.setup_sec, maximum.setup_sec, factor),
        agent_sec: effective(time.agent_sec, default.agent_sec, maximum.agent_sec, factor),
        verifier_sec: effective(
            time.verifier_sec,
            default.verifier_sec,
            maximum.verifier_sec,
            factor,
        ),
        collect_sec: effective(None, default.collect_sec, maximum.collect_sec, factor),
        cpu_milli: milli(environment.cpus)
            .unwrap_or(default.cpu_milli)
            .min(maximum.cpu_milli),
        memory_mb: size(environment.memory_mb)
            .unwrap_or(default.memory_mb)
            .min(maximum.memory_mb),
        storage_mb: size(environment.storage_mb)
            .unwrap_or(default.storage_mb)
            .min(maximum.storage_mb),
        pids: default.pids.min(maximum.pids),
    }
}

fn size(mebibytes: Option<i64>) -> Option<u64> {
    mebibytes
        .and_then(|size| u64::try_from(size).ok())
        .filter(|size| *size > 0)
}

fn milli(cpus: Option<f64>) -> Option<u64> {
    let milli = (cpus? * 1000.0).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the range checked"
    )]
    (1.0..1e15).contains(&milli).then_some(milli as u64)
}

/// Always collected.
const ARTIFACTS: &str = "/logs/artifacts";

#[cfg(test)]
mod tests;
