//! `task.toml` as types: every key of schema 1.0 to 1.4, with its default. Reading is in the sibling `parse`.

use std::collections::BTreeMap;

use serde::Serialize;

/// `task.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The schema that the author had in mind; `version` in old files.
    pub schema_version: String,
    /// `[task]`.
    pub task: Option<Package>,
    /// `[metadata]`: free, as JSON.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// `[verifier]`.
    pub verifier: Verifier,
    /// `[agent]`.
    pub agent: Agent,
    /// `[environment]`.
    pub environment: Environment,
    /// `[solution]`.
    pub solution: Solution,
    /// Where the task came from.
    pub source: Option<String>,
    /// How the rewards of several steps become one.
    pub multi_step_reward_strategy: Option<Strategy>,
    /// `[[steps]]`.
    pub steps: Option<Vec<Step>>,
    /// What is collected after the agent.
    pub artifacts: Vec<Artifact>,
}

/// `[task]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// `org/name`.
    pub name: String,
    /// Any text.
    pub version: Option<String>,
    /// For people.
    pub description: String,
    /// Who wrote it.
    pub authors: Vec<Author>,
    /// For searching.
    pub keywords: Vec<String>,
}

/// An author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub email: Option<String>,
}

/// `[solution]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Solution {
    /// The oracle's environment; wins over all other.
    pub env: BTreeMap<String, String>,
}

/// How much of the world a phase reaches, in the task's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Nothing.
    NoNetwork,
    /// Everything public.
    Public,
    /// The allowed hosts.
    Allowlist,
}

/// `[agent]`, also of a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Agent {
    /// Overrides the environment's while the agent works.
    pub network_mode: Option<NetworkMode>,
    /// With `allowlist` only.
    pub allowed_hosts: Option<Vec<String>>,
    /// Seconds.
    pub timeout_sec: Option<f64>,
    /// Who the agent runs as; the image's user when absent.
    pub user: Option<User>,
}

/// A user by name or by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum User {
    /// By name.
    Name(String),
    /// By number.
    Id(i64),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// `[environment]`, also of a verifier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Environment {
    /// The baseline of every phase.
    pub network_mode: NetworkMode,
    /// With `allowlist` only.
    pub allowed_hosts: Option<Vec<String>>,
    /// Seconds for build and start together.
    pub build_timeout_sec: f64,
    /// An image made elsewhere; wins over the Dockerfile.
    pub docker_image: Option<String>,
    /// The operating system.
    pub os: Os,
    /// Cores.
    pub cpus: Option<f64>,
    /// MiB.
    pub memory_mb: Option<i64>,
    /// MiB.
    pub storage_mb: Option<i64>,
    /// How many.
    pub gpus: Option<i64>,
    /// Any of these.
    pub gpu_types: Option<Vec<String>>,
    /// A TPU slice.
    pub tpu: Option<Tpu>,
    /// Servers of tools for the agent.
    pub mcp_servers: Vec<McpServer>,
    /// Environment of every process.
    pub env: BTreeMap<String, String>,
    /// A folder of skills in the image.
    pub skills_dir: Option<String>,
    /// Passed before the agent is set up.
    pub healthcheck: Option<Healthcheck>,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// Was `os` written down? A verifier's environment inherits it otherwise.
    #[serde(skip)]
    pub names_os: bool,
}

/// An operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

/// `[environment.tpu]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tpu {
    /// The accelerator.
    #[serde(rename = "type")]
    pub kind: String,
    /// `NxM` or `NxMxK`.
    pub topology: String,
}

/// `[[environment.mcp_servers]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct McpServer {
    /// Its name.
    pub name: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// Where it is, unless `stdio`.
    pub url: Option<String>,
    /// What starts it, with `stdio`.
    pub command: Option<String>,
    /// Arguments, with `stdio`.
    pub args: Vec<String>,
    /// Headers, unless `stdio`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// How an MCP server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Over pipes.
    Stdio,
    /// Over server-sent events.
    Sse,
    /// Over HTTP; `http` in old files.
    StreamableHttp,
}

/// `[environment.healthcheck]` and `steps.healthcheck`, as Docker's HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Healthcheck {
    /// For a shell; exit 0 means healthy.
    pub command: String,
    /// Seconds between checks.
    pub interval_sec: f64,
    /// Seconds for one check.
    pub timeout_sec: f64,
    /// Seconds in which failures do not count.
    pub start_period_sec: f64,
    /// Seconds between checks meanwhile.
    pub start_interval_sec: f64,
    /// Failures in a row that mean unhealthy.
    pub retries: i64,
}

/// `[verifier]`, also of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verifier {
    /// Overrides the environment's while the verifier works.
    pub network_mode: Option<NetworkMode>,
    /// With `allowlist` only.
    pub allowed_hosts: Option<Vec<String>>,
    /// Seconds.
    pub timeout_sec: f64,
    /// Environment of the test script alone.
    pub env: BTreeMap<String, String>,
    /// Who the test script runs as; the image's user when absent.
    pub user: Option<User>,
    /// Where it runs.
    pub environment_mode: Option<EnvironmentMode>,
    /// Its own environment.
    pub environment: Option<Environment>,
    /// Commands run after the agent, before anything is collected.
    pub collect: Vec<Collect>,
}

/// Where a verifier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentMode {
    /// In the agent's sandbox.
    Shared,
    /// In a sandbox of its own.
    Separate,
}

/// `[[verifier.collect]]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collect {
    /// For a shell.
    pub command: String,
    /// Where; `main` is the agent's container.
    pub service: String,
    /// Seconds.
    pub timeout_sec: f64,
    /// Who it runs as.
    pub user: Option<User>,
}

/// What is collected. A bare string names its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// A path in the container, without `..`.
    pub source: String,
    /// A path below the artifacts' folder, instead of the source's.
    pub destination: Option<String>,
    /// Patterns that are left out.
    pub exclude: Vec<String>,
    /// Where; `main` when absent.
    pub service: Option<String>,
}

/// `[[steps]]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The folder's name below `steps/`.
    pub name: String,
    /// Overrides `[agent]`.
    pub agent: Agent,
    /// Overrides `[verifier]`.
    pub verifier: Verifier,
    /// Below it the remaining steps are not run.
    pub min_reward: Option<MinReward>,
    /// Passed after the step's setup, beside the environment's.
    pub healthcheck: Option<Healthcheck>,
    /// Collected beside the task's.
    pub artifacts: Vec<Artifact>,
}

/// A gate between steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MinReward {
    /// For the key `reward`.
    One(f64),
    /// For each of these keys.
    Keys(BTreeMap<String, f64>),
}

/// How the rewards of several steps become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The mean by key over the steps that have a result; a missing key counts 0.
    #[default]
    Mean,
    /// The last step's, as it is.
    Final,
}
