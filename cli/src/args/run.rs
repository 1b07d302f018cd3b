//! Options of `run` and `submit`.

use std::path::PathBuf;

use assay_core::{agent::Contract, egress::HostName, id::RunId, money::PicoUsd, price::ModelSlug};
use clap::{ArgGroup, Args};

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What is submitted.
    #[command(flatten)]
    pub submit: SubmitArgs,
}

/// What is submitted.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Folders of tasks, or digests of registered ones
    #[arg(required_unless_present = "replay", value_name = "TASKS")]
    pub tasks: Vec<String>,
    /// The agent: `oracle`, `nop`, or the folder of one
    #[arg(long, short, value_name = "AGENT", required_unless_present = "replay", value_parser = agent_choice)]
    pub agent: Option<AgentChoice>,
    /// Answer model calls from the recording of this run: no service is called, nothing is spent. Task, agent and policy
    /// are that run's where they are not given
    #[arg(long, value_name = "RUN")]
    pub replay: Option<RunId>,
    /// What the runs may reach and spend.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How often each task is run
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// Which workers may take the runs
    #[arg(long, default_value = "1")]
    pub class: String,
    /// 0 (soonest) to 9
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(i16).range(0..=9))]
    pub priority: i16,
    /// A value for a `${NAME}` template of the tasks
    #[arg(long = "value", value_name = "NAME=VALUE", value_parser = super::key_value)]
    pub values: Vec<(String, String)>,
    /// A value that no sandbox gets, read from the environment variable NAME: tasks see a placeholder under this name, which
    /// is replaced in this header (`authorization`) of requests to this host
    #[arg(long = "secret", value_name = "NAME@HOST[/HEADER]", value_parser = SecretChoice::parse)]
    pub secrets: Vec<SecretChoice>,
    /// Names this submission: the same key twice makes one evaluation
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// What the runs may reach and spend. Without any of these: no model and no money.
#[derive(Debug, Clone, Default, Args)]
#[command(group = ArgGroup::new("by-flags").args(["models", "budget", "timeout"]).multiple(true).conflicts_with("policy"))]
pub struct PolicyArgs {
    /// A policy.toml
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A model that the agent may call; may be given again
    #[arg(long = "model", value_name = "MODEL", requires = "budget")]
    pub models: Vec<ModelSlug>,
    /// Dollars that the agent of one run may spend, e.g. 0.50
    #[arg(long, value_name = "USD", requires = "models")]
    pub budget: Option<PicoUsd>,
    /// Seconds that the agent of one run may take
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,
}

impl PolicyArgs {
    /// Does the command line say anything of it?
    pub fn is_given(&self) -> bool {
        self.policy.is_some() || !self.models.is_empty() || self.budget.is_some() || self.timeout.is_some()
    }
}

/// Where a secret value comes from and where it may go. The value itself never stands on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretChoice {
    /// The name, in templates and in our own environment.
    pub name: String,
    /// The only host that gets it.
    pub host: HostName,
    /// The only header that it is put into.
    pub header: String,
}

impl SecretChoice {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, place) = text
            .split_once('@')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("want NAME@HOST or NAME@HOST/HEADER")?;
        let (host, header) = place.split_once('/').unwrap_or((place, "authorization"));
        Ok(Self {
            name: name.to_owned(),
            host: host.parse().map_err(|error| format!("{host}: {error}"))?,
            header: header.to_ascii_lowercase(),
        })
    }
}

/// The agent of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentChoice {
    /// `oracle` or `nop`.
    BuiltIn(Contract),
    /// The folder of an agent.
    Folder(PathBuf),
}

fn agent_choice(text: &str) -> Result<AgentChoice, String> {
    match Contract::from_name(text) {
        Some(contract) if !contract.has_bundle() => Ok(AgentChoice::BuiltIn(contract)),
        _ if text.is_empty() => Err("want `oracle`, `nop` or a folder".to_owned()),
        _ => Ok(AgentChoice::Folder(PathBuf::from(text))),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("want seconds above 0, e.g. 600".to_owned()),
    }
}
