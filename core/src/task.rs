//! Tasks in the Harbor format: a folder read into one typed [`Task`], and what follows from it for a run.
//!
//! A folder that works in Harbor works here unchanged, or is refused by a sentence that names the key. This module
//! reads listings ([`Files`]), never a file system.

pub mod compose;
pub mod config;
mod document;
mod folder;
mod lint;
mod parse;
pub mod plan;
mod support;
pub mod template;

pub use compose::Compose;
pub use config::Config;
pub use plan::Plan;

use crate::archive::Files;

/// A task that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// `task.name`, or the folder's name.
    pub name: String,
    /// `task.toml`.
    pub config: Config,
    /// What was found worth a word: unknown keys, old keys.
    pub warnings: Vec<Warning>,
    /// Where things are in the folder, by step. Never empty.
    pub steps: Vec<StepFiles>,
    /// Is the image built from `environment/Dockerfile`? Otherwise it is `environment.docker_image`.
    pub has_dockerfile: bool,
    /// Are the loose files of `environment/` put into the working directory after the start?
    pub uploads_environment: bool,
    /// The containers beside the task's own one.
    pub compose: Compose,
}

/// Where the parts of a step are, as names within the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFiles {
    /// The step's name; absent where the task has no steps.
    pub name: Option<String>,
    /// The agent's instruction, without canaries.
    pub instruction: String,
    /// The folder put into the working directory before the step.
    pub workdir: Option<String>,
    /// Does that folder hold a `setup.sh`?
    pub has_setup: bool,
    /// The folders that become `/tests`, in this order; later files win. Empty where the image bundles them.
    pub tests: Vec<String>,
    /// The folder that is the context of the verifier's own image.
    pub verifier_image: Option<String>,
    /// The containers beside that image.
    pub verifier_compose: Compose,
    /// The folder that becomes `/solution` for the oracle, if it has a `solve.sh`.
    pub solution: Option<String>,
    /// A trajectory for agents that can begin with one.
    pub trajectory: Option<String>,
}

/// Something that is allowed and still worth a word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The rule, e.g. `unknown-config-field`.
    pub rule: &'static str,
    /// A sentence that names the key or the file.
    pub message: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)
    }
}

/// A place in a text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a folder is no task that can be run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTask {
    /// `task.toml` is no TOML.
    #[error("task.toml: {place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A value is missing, of the wrong type, or contradicts another.
    #[error("task.toml: {key}: {message} ({place})")]
    Value {
        /// The key's path, e.g. `steps[1].agent.timeout_sec`.
        key: String,
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
    },
    /// A file or folder is missing.
    #[error("{path} is missing: {reason}")]
    Missing {
        /// Its name within the task.
        path: String,
        /// What it is needed for.
        reason: &'static str,
    },
    /// A compose file is no YAML, or says something that is not done here.
    #[error("{path}: {}{reason}", if key.is_empty() { String::new() } else { format!("{key}: ") })]
    Compose {
        /// The file's name within the task.
        path: String,
        /// The key's path, e.g. `services.db.privileged`; empty for the whole file.
        key: String,
        /// What is wrong, or not done.
        reason: String,
    },
    /// A valid task that asks for something that Assay does not do.
    #[error("{}{key}: {reason}", if key.contains('/') { "" } else { "task.toml: " })]
    Unsupported {
        /// The key's path in `task.toml`, or the name of a file.
        key: String,
        /// What is not done, and what would be.
        reason: String,
    },
}

impl Task {
    /// Reads a task. `folder` is the folder's name, used where `task.toml` names none.
    pub fn read(files: &Files, folder: &str) -> Result<Self, InvalidTask> {
        let text = files.text("task.toml").ok_or(InvalidTask::Missing {
            path: "task.toml".to_owned(),
            reason: "every task has one (of at most 1 MiB)",
        })?;
        let (config, mut warnings) = Config::parse(&text)?;
        let compose = Compose::read(files, "environment", &mut warnings)?.unwrap_or_default();
        support::check_supported(&config, &compose)?;
        support::warn_of_gpus(&config, &mut warnings);
        let steps = folder::steps(&config, files, &mut warnings)?;
        Ok(Self {
            name: config
                .task
                .as_ref()
                .map_or_else(|| folder.to_owned(), |package| package.name.clone()),
            steps,
            compose,
            has_dockerfile: folder::check_environment(&config, files)?,
            uploads_environment: folder::uploads_environment(&config, files),
            config,
            warnings,
        })
    }
}
