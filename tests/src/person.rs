//! What a person does with an installation: registers, submits, waits for the end.

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, bail};
use assay_cli::{api::Api, bundle, error::Error};
use assay_core::{
    agent::{Contract, Manifest},
    cause::Cause,
    control::runner::Stream,
    digest::Digest,
    id::AgentId,
    phase::Phase,
    policy::Policy,
    wire::{
        channel::Channel,
        people::{Attempt, Evaluation, NewAgent, NewEvaluation, NewTask, NewUpload, Run, RunState, Task},
    },
};

use crate::installation::Files;

/// What is run.
#[derive(Debug, Clone)]
pub struct Order {
    /// The task.
    pub task: Digest,
    /// The agent.
    pub agent: AgentId,
    /// The policy.
    pub policy: Policy,
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The run.
    pub run: Run,
    /// Its attempts, the first one first.
    pub attempts: Vec<Attempt>,
}

impl Ended {
    /// The attempt that counted.
    pub fn last(&self) -> anyhow::Result<&Attempt> {
        self.attempts.last().context("a run without an attempt")
    }

    /// The attempts in which something was tried: what finds no room is given back and costs none.
    pub fn tried(&self) -> impl Iterator<Item = &Attempt> {
        let no_room = Some(Cause::NoRoom);
        self.attempts
            .iter()
            .filter(move |attempt| attempt.cause != no_room)
    }

    /// The sentence that a person is told.
    pub fn detail(&self) -> &str {
        self.run.detail.as_deref().unwrap_or_default()
    }
}

/// Somebody with a key.
#[derive(Debug, Clone)]
pub struct Person {
    /// The API as they meet it.
    pub api: Api,
}

impl Person {
    /// Packs, uploads and registers a task's folder, as `assay submit` does.
    pub async fn register_task(&self, files: &Files) -> Result<Task, Error> {
        let folder = written(files)?;
        let archive = bundle::pack(folder.path())?;
        bundle::upload(&self.api, &archive).await?;
        self.register_archive(archive.digest).await
    }

    /// Registers the task of an archive that was uploaded.
    pub async fn register_archive(&self, digest: Digest) -> Result<Task, Error> {
        let name = "bad-input".to_owned();
        self.api.register_task(&NewTask { digest, name }).await
    }

    /// Uploads bytes under the digest that is said to be theirs.
    pub async fn upload(&self, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
        let size_bytes = bytes.len() as u64;
        let told = self.api.announce(&NewUpload { digest, size_bytes }).await?;
        let Some(url) = told.url else { return Ok(()) };
        let mut file = tempfile::NamedTempFile::new().map_err(software)?;
        file.write_all(bytes).map_err(software)?;
        self.api.put_file(&url, file.path(), size_bytes).await
    }

    /// Packs, uploads and registers a bundle.
    pub async fn register_agent(&self, files: &Files) -> Result<AgentId, Error> {
        let folder = written(files)?;
        let text = std::fs::read_to_string(folder.path().join("agent.toml")).unwrap_or_default();
        // The command reads the manifest first; here the API is to meet it as it is.
        let contract = Manifest::parse(&text).map_or(Contract::Command, |manifest| manifest.contract);
        let archive = bundle::pack(folder.path())?;
        bundle::upload(&self.api, &archive).await?;
        self.built_in_or(contract, Some(archive.digest)).await
    }

    /// The built-in agent of a contract.
    pub async fn built_in(&self, contract: Contract) -> Result<AgentId, Error> {
        self.built_in_or(contract, None).await
    }

    async fn built_in_or(&self, contract: Contract, digest: Option<Digest>) -> Result<AgentId, Error> {
        let new = NewAgent {
            name: contract.name().to_owned(),
            contract,
            digest,
        };
        Ok(self.api.register_agent(&new).await?.id)
    }

    /// Submits one run.
    pub async fn submit(&self, order: &Order) -> Result<Evaluation, Error> {
        let new = NewEvaluation {
            agent: order.agent,
            tasks: vec![order.task],
            task_set: None,
            policy: order.policy.clone(),
            repeats: 1,
            class: "1".to_owned(),
            priority: 5,
            values: std::collections::BTreeMap::new(),
            secrets: std::collections::BTreeMap::new(),
        };
        let key = assay_cli::up::objects::random_hex(16)?;
        self.api.submit(&new, &key).await
    }

    /// A bundle, or the oracle where there is none, on a task under a policy, registered and ready to be submitted.
    pub async fn order(&self, task: &Files, agent: Option<&Files>, policy: Policy) -> anyhow::Result<Order> {
        let task = self.register_task(task).await?.digest;
        let agent = match agent {
            Some(files) => self.register_agent(files).await?,
            None => self.built_in(Contract::Oracle).await?,
        };
        Ok(Order { task, agent, policy })
    }

    /// Waits until the one run of an evaluation has ended.
    pub async fn over(&self, evaluation: &Evaluation) -> anyhow::Result<Ended> {
        let is_over = |run: &Run| !matches!(run.state, RunState::Queued | RunState::Running);
        let run = self.wait_for(evaluation, is_over).await?;
        let attempts = self.api.attempts(run.id).await?;
        Ok(Ended { run, attempts })
    }

    /// Waits until the one run of an evaluation is as wanted.
    pub async fn wait_for(
        &self,
        evaluation: &Evaluation,
        wanted: impl Fn(&Run) -> bool,
    ) -> anyhow::Result<Run> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let late = tokio::time::Instant::now() > deadline;
            match self.api.runs(evaluation.id).await {
                // A replica that was killed is started again.
                Err(error) if late => return Err(error.into()),
                Err(_) => {}
                Ok(runs) => {
                    let run = runs.into_iter().next().context("an evaluation without a run")?;
                    if wanted(&run) {
                        return Ok(run);
                    }
                    if late {
                        bail!("not within {PATIENCE:?}: {run:?}");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All that is stored of a stream of the last attempt's only step.
    pub async fn output(&self, ended: &Ended, phase: Phase, stream: Stream) -> anyhow::Result<Vec<u8>> {
        let (attempt, mut all, mut offset) = (ended.last()?.id, Vec::new(), 0);
        loop {
            let channel = Channel::Printed(phase, stream);
            let stretch = self.api.output(attempt, (0, channel), offset).await?;
            if stretch.bytes.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&stretch.bytes);
            offset = stretch.next_offset;
        }
    }

    /// An artifact of the last attempt, as text.
    pub async fn artifact(&self, ended: &Ended, name: &str) -> anyhow::Result<String> {
        let artifacts = self.api.artifacts(ended.last()?.id).await?;
        let found = artifacts.iter().find(|artifact| artifact.name == name);
        let names = || {
            artifacts
                .iter()
                .map(|artifact| artifact.name.as_str())
                .collect::<Vec<_>>()
        };
        let artifact = found.with_context(|| format!("{name} is not among {:?}", names()))?;
        let mut bytes = Vec::new();
        self.api.fetch(artifact, &mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn written(files: &Files) -> Result<tempfile::TempDir, Error> {
    let folder = tempfile::tempdir().map_err(software)?;
    files.store(folder.path()).map_err(software)?;
    Ok(folder)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn software(error: std::io::Error) -> Error {
    Error::Software(error.to_string())
}

/// The longest that a run may take here.
const PATIENCE: Duration = Duration::from_mins(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
