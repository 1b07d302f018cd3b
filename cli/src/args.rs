//! The command line: every command, option and its help text. No behaviour.

mod doctor;
mod run;
mod up;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use doctor::{ClusterAt, DoctorArgs};
pub use run::{AgentChoice, PolicyArgs, RunArgs, SecretChoice, SubmitArgs};
pub use up::{DownArgs, ObjectsArgs, UpArgs};

/// Evaluates untrusted agents against tasks inside sandboxes, and says how good they are.
#[derive(Debug, Parser)]
#[command(name = "assay", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Where files lie and which API is spoken to.
    #[command(flatten, next_help_heading = "Options of every command")]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What is logged where nobody says: servers tell what they do, commands only what went wrong.
    pub fn default_log(&self) -> &'static str {
        if matches!(self.command, Command::Up(_) | Command::Objects(_)) {
            "info"
        } else {
            "warn"
        }
    }
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The profile to use: address and key of an API
    #[arg(long, global = true, env = "ASSAY_PROFILE", hide_env_values = true, default_value = "local", value_parser = profile_name)]
    pub profile: String,
    /// Address of the API, instead of the profile's
    #[arg(
        long,
        global = true,
        env = "ASSAY_API",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub api: Option<String>,
    /// Key of the API, instead of the profile's
    #[arg(
        long,
        global = true,
        env = "ASSAY_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub key: Option<String>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What is logged to standard error, e.g. `debug`
    #[arg(
        long = "log",
        global = true,
        env = "ASSAY_LOG",
        hide_env_values = true,
        value_name = "FILTER"
    )]
    pub log: Option<String>,
    /// Folder of profiles
    #[arg(
        long,
        global = true,
        env = "ASSAY_CONFIG_DIR",
        hide_env_values = true,
        hide = true
    )]
    pub config_dir: Option<PathBuf>,
    /// Home of the user
    #[arg(long, global = true, env = "HOME", hide_env_values = true, hide = true)]
    pub home: Option<PathBuf>,
    /// Base of configuration folders
    #[arg(
        long,
        global = true,
        env = "XDG_CONFIG_HOME",
        hide_env_values = true,
        hide = true
    )]
    pub xdg_config_home: Option<PathBuf>,
    /// Base of state folders
    #[arg(
        long,
        global = true,
        env = "XDG_STATE_HOME",
        hide_env_values = true,
        hide = true
    )]
    pub xdg_state_home: Option<PathBuf>,
    /// Folder of what `up` keeps
    #[arg(
        long,
        global = true,
        env = "ASSAY_STATE_DIR",
        hide_env_values = true,
        hide = true
    )]
    pub state_dir: Option<PathBuf>,
}

#[cfg(test)]
impl Global {
    /// Everything in one folder.
    pub(crate) fn for_tests(folder: &std::path::Path) -> Self {
        Self {
            profile: "local".to_owned(),
            api: None,
            key: None,
            json: false,
            log: None,
            config_dir: Some(folder.to_owned()),
            home: None,
            xdg_config_home: None,
            xdg_state_home: None,
            state_dir: Some(folder.to_owned()),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: database, object store, API and a screener
    Up(Box<UpArgs>),
    /// Stop what `up --detach` started
    Down(DownArgs),
    /// Submit tasks, follow them to the end and print a table
    Run(Box<RunArgs>),
    /// Submit tasks and return at once
    Submit(Box<SubmitArgs>),
    /// List evaluations, newest first
    List(ListArgs),
    /// Show an evaluation with its runs and its policy
    Show(EvaluationArg),
    /// Follow an evaluation to its end
    Watch(EvaluationArg),
    /// Print what the programs of a run printed, or the proxy's audit
    Logs(LogsArgs),
    /// Explain on one screen where a run is and why
    Why(RunArg),
    /// Cancel an evaluation or a run
    Cancel(CancelArgs),
    /// Fetch what a run left behind; without an option: list it
    Get(GetArgs),
    /// Write and check tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Write and check agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Check policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check the record of a proxy's decisions
    #[command(subcommand)]
    Audit(AuditCommand),
    /// API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Store address and key of an API as a profile; the key is read from standard input
    Login(LoginArgs),
    /// Check this machine and the API, and say what to do
    Doctor(DoctorArgs),
    /// Serve a folder as an object store (S3), for development
    Objects(ObjectsArgs),
}

/// Names an evaluation.
#[derive(Debug, Args)]
pub struct EvaluationArg {
    /// The evaluation's id
    pub evaluation: assay_core::id::EvaluationId,
}

/// Names a run.
#[derive(Debug, Args)]
pub struct RunArg {
    /// The run's id
    pub run: assay_core::id::RunId,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How many
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub number: u32,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The run's id
    pub run: assay_core::id::RunId,
    /// Go on until the run has ended
    #[arg(long, short)]
    pub follow: bool,
    /// The proxy's audit: time, host, model, decision and reason, status, cost
    #[arg(long, conflicts_with_all = ["phase", "stream", "step"])]
    pub proxy: bool,
    /// Only this phase, e.g. `agent` or `verify`
    #[arg(long, value_parser = phase)]
    pub phase: Option<assay_core::phase::Phase>,
    /// Only this stream
    #[arg(long, value_enum)]
    pub stream: Option<StreamName>,
    /// Only this step, from 1
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub step: Option<u32>,
    /// An earlier attempt, from 1; the last one by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

/// A stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The id of an evaluation, or of a run
    pub id: String,
}

/// `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The run's id
    pub run: assay_core::id::RunId,
    /// Print the agent's patch
    #[arg(long, conflicts_with_all = ["artifacts", "trajectory", "recording"])]
    pub patch: bool,
    /// Print the agent's recorded model calls as a trajectory (ATIF 1.8, JSON)
    #[arg(long, conflicts_with_all = ["artifacts", "recording"])]
    pub trajectory: bool,
    /// Print the agent's recorded model calls as they were, one JSON line each
    #[arg(long, conflicts_with = "artifacts")]
    pub recording: bool,
    /// Write everything that the attempt left into this folder
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
}

/// `task …`.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Lint a task, print its limits and hosts, then prove it: oracle gives 1 and nop gives 0
    Check(TaskCheckArgs),
    /// Write a small task that passes `task check`
    Init(InitArgs),
}

/// `task check`.
#[derive(Debug, Args)]
pub struct TaskCheckArgs {
    /// The task's folder
    pub dir: PathBuf,
    /// Only read and lint; run nothing
    #[arg(long = "static")]
    pub static_only: bool,
    /// A value for a `${NAME}` template of the task
    #[arg(long = "value", value_name = "NAME=VALUE", value_parser = key_value)]
    pub values: Vec<(String, String)>,
}

/// `task init`, `agent init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to make; its last part becomes the name
    pub dir: PathBuf,
}

/// `agent …`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Check an agent's folder: manifest, code, size
    Check(AgentCheckArgs),
    /// Write a small agent that runs as it stands
    Init(AgentInitArgs),
}

/// `agent check`.
#[derive(Debug, Args)]
pub struct AgentCheckArgs {
    /// The agent's folder
    pub dir: PathBuf,
}

/// `agent init`.
#[derive(Debug, Args)]
pub struct AgentInitArgs {
    /// The folder to make; its last part becomes the name
    pub dir: PathBuf,
    /// `patch` returns a diff; `command` works in the sandbox
    #[arg(long, value_enum, default_value_t = ContractName::Command)]
    pub contract: ContractName,
}

/// Contracts that bring code of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ContractName {
    /// One Python function that returns a unified diff.
    Patch,
    /// A command that works in the task's folder.
    Command,
}

/// `policy …`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print what a policy file comes to, and what speaks against it
    Check(PolicyCheckArgs),
}

/// `policy check`.
#[derive(Debug, Args)]
pub struct PolicyCheckArgs {
    /// A policy.toml
    pub file: PathBuf,
}

/// `audit …`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no line of an audit was changed, left out or put in, and that its end is there
    Verify(AuditVerifyArgs),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// The id of a run, whose stored audits are fetched, or a file
    #[arg(value_name = "RUN|FILE")]
    pub source: String,
    /// An earlier attempt of the run, from 1; the last one by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

/// `key …`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; its secret is shown this once
    Create(KeyCreateArgs),
    /// Revoke every key of a name: from now on they open nothing
    Revoke(KeyRevokeArgs),
}

/// `key revoke`.
#[derive(Debug, Args)]
pub struct KeyRevokeArgs {
    /// The name of the keys
    pub name: String,
}

/// `key create`.
#[derive(Debug, Args)]
pub struct KeyCreateArgs {
    /// A name for people
    pub name: String,
    /// What the key may do
    #[arg(long, value_enum, default_value_t = ScopeName::Validator)]
    pub scope: ScopeName,
    /// Bind a worker's key to the worker of its name, which takes runs of this class only, e.g. validator
    #[arg(long, value_name = "CLASS")]
    pub worker_class: Option<String>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeName {
    /// Submit, cancel, read.
    Validator,
    /// Read.
    Viewer,
    /// Everything a validator may, and keys.
    Admin,
    /// The worker's calls.
    Worker,
}

/// `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The API's address, e.g. `https://assay.example.org`
    pub url: String,
}

fn profile_name(text: &str) -> Result<String, String> {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(sane) {
        Ok(text.to_owned())
    } else {
        Err("want letters, digits, `-` and `_`".to_owned())
    }
}

fn phase(text: &str) -> Result<assay_core::phase::Phase, String> {
    assay_core::phase::Phase::from_name(text).ok_or_else(|| {
        let names = assay_core::phase::Phase::ALL.map(assay_core::phase::Phase::name);
        format!("want one of {}", names.join(", "))
    })
}

/// `NAME=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("want NAME=VALUE".to_owned()),
    }
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 it ran and the answer is no (a run without a score, a check that failed); \
64 wrong command line; 65 wrong input; 66 input missing; 69 a service does not answer; 70 a fault of ours; \
73 cannot write; 75 try again later; 77 not allowed; 78 wrong configuration.";
