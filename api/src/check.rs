//! What registration finds out about an archive: can it be run at all, and what does a submit have to know of it?

use std::{collections::BTreeSet, fs::File, path::Path};

use assay_core::{
    agent::{Contract, Manifest},
    archive::{self, Caps, Files},
    digest::Digest,
    limits::LimitSettings,
    task::{InvalidTask, Task, config::Config, template},
};

use crate::{archive::Fetched, code::Code, refusal::Refusal, store::tasks::Checked};

/// Reads a task's archive off the async threads.
pub async fn task(
    fetched: &Fetched,
    digest: Digest,
    folder: String,
    limits: LimitSettings,
) -> Result<Checked, Refusal> {
    let files = list(fetched).await?;
    let size_bytes = fetched.size_bytes;
    let task = Task::read(&files, &folder).map_err(|error| invalid_task(&error))?;
    Ok(Checked {
        digest,
        size_bytes,
        warnings: task.warnings.iter().map(ToString::to_string).collect(),
        longest_sec: Some(longest_sec(&task.config, task.steps.len(), &limits)),
        needs_values: needs_values(&task.config),
        name: task.name,
    })
}

/// Reads an agent's bundle.
pub async fn agent(fetched: &Fetched, contract: Contract) -> Result<(), Refusal> {
    let files = list(fetched).await?;
    let invalid = |detail: String| Refusal::new(Code::AgentInvalid, detail);
    let text = files.text("agent.toml");
    let text = text.ok_or_else(|| invalid("agent.toml is missing: every bundle has one".to_owned()))?;
    let manifest = Manifest::parse(&text).map_err(|error| invalid(error.to_string()))?;
    if manifest.contract != contract {
        let said = manifest.contract;
        return Err(invalid(format!(
            "agent.toml: contract is {said}, but {contract} was asked for"
        )));
    }
    if contract == Contract::Patch && !files.is_file("agent.py") {
        return Err(invalid(
            "agent.py is missing: a patch agent is this file".to_owned(),
        ));
    }
    Ok(())
}

async fn list(fetched: &Fetched) -> Result<Files, Refusal> {
    let path = fetched.file.path().to_owned();
    let listed = tokio::task::spawn_blocking(move || read(&path)).await;
    listed.map_err(|_| Refusal::internal())?
}

fn read(path: &Path) -> Result<Files, Refusal> {
    archive::list(File::open(path)?, Caps::default()).map_err(|error| {
        if error.is_io() {
            tracing::error!(%error, "cannot read an archive");
            return Refusal::internal();
        }
        Refusal::new(Code::ArchiveInvalid, error.to_string())
    })
}

fn invalid_task(error: &InvalidTask) -> Refusal {
    let code = match error {
        InvalidTask::Unsupported { .. } => Code::TaskUnsupported,
        InvalidTask::Syntax { .. }
        | InvalidTask::Value { .. }
        | InvalidTask::Missing { .. }
        | InvalidTask::Compose { .. } => Code::TaskInvalid,
    };
    Refusal::new(code, error.to_string())
}

/// Names of templates without a default that every run of the task resolves. The solution's are the oracle's alone.
fn needs_values(config: &Config) -> Vec<String> {
    let steps = config.steps.iter().flatten().map(|step| &step.verifier);
    let verifiers: Vec<_> = std::iter::once(&config.verifier).chain(steps).collect();
    let images = verifiers
        .iter()
        .filter_map(|verifier| verifier.environment.as_ref());
    let tables = std::iter::once(&config.environment.env)
        .chain(verifiers.iter().map(|verifier| &verifier.env))
        .chain(images.map(|environment| &environment.env));
    let names: BTreeSet<String> = tables
        .flat_map(template::names)
        .filter(|(_, default)| default.is_none())
        .map(|(name, _)| name.to_owned())
        .collect();
    names.into_iter().collect()
}

/// The sum of what the phases of all steps may take, each at most the operator's maximum.
fn longest_sec(config: &Config, steps: usize, limits: &LimitSettings) -> f64 {
    let (default, most) = (&limits.default, &limits.maximum);
    let once =
        config.environment.build_timeout_sec.min(most.build_sec) + 2.0 * most.start_sec + most.setup_sec;
    let step = |agent: Option<f64>, verifier: f64| {
        agent.unwrap_or(default.agent_sec).min(most.agent_sec)
            + verifier.min(most.verifier_sec)
            + most.collect_sec
    };
    let whole = match &config.steps {
        Some(list) if !list.is_empty() => list
            .iter()
            .map(|each| {
                step(
                    each.agent.timeout_sec.or(config.agent.timeout_sec),
                    each.verifier.timeout_sec,
                )
            })
            .sum(),
        _ => step(config.agent.timeout_sec, config.verifier.timeout_sec),
    };
    let later_setups = f64::from(u32::try_from(steps.saturating_sub(1)).unwrap_or(u32::MAX)) * most.setup_sec;
    once + whole + later_setups
}
