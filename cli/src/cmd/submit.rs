//! `run`, `submit` and `watch`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use assay_core::{
    agent::{Contract, Manifest},
    digest::Digest,
    id::EvaluationId,
    policy::Policy,
    secret::SecretValue,
    upstream::Secret,
    wire::people::{Agent, Evaluation, NewAgent, NewEvaluation, NewTask, Run, RunState},
};

use super::{Context, list, replay::Origin};
use crate::{
    api::Api,
    args::{AgentChoice, SecretChoice, SubmitArgs},
    bundle,
    error::Error,
    follow, policy, tables,
};

/// Submits, follows to the end, prints a table.
pub(super) async fn run(context: &Context, args: &SubmitArgs) -> Result<(), Error> {
    let api = context.api()?;
    let evaluation = from_args(context, &api, args).await?;
    context.screen.note(format!("evaluation {}", evaluation.id));
    finish(context, &api, evaluation.id).await
}

/// Submits.
pub(super) async fn submit(context: &Context, args: &SubmitArgs) -> Result<(), Error> {
    let evaluation = from_args(context, &context.api()?, args).await?;
    if context.screen.json {
        return context.screen.document(&evaluation);
    }
    context
        .screen
        .note(format!("follow it with `assay watch {}`", evaluation.id));
    context.screen.line(evaluation.id.to_string())
}

/// Follows an evaluation.
pub(super) async fn watch(context: &Context, id: EvaluationId) -> Result<(), Error> {
    finish(context, &context.api()?, id).await
}

async fn finish(context: &Context, api: &Api, id: EvaluationId) -> Result<(), Error> {
    let (evaluation, runs) = follow::to_the_end(api, id, context.screen).await?;
    if context.screen.json {
        list::document(context, &evaluation, &runs)?;
    } else {
        context.screen.line(tables::runs(&runs))?;
        context.screen.line(format!(
            "score {}  cost {} USD{}",
            follow::score(evaluation.score),
            tables::usd(evaluation.cost),
            if evaluation.policy.replay.is_some() {
                "  replayed: model calls were answered from a recording"
            } else {
                ""
            }
        ))?;
    }
    verdict(&runs)
}

/// An evaluation has gone well when every run was graded, whatever its score.
fn verdict(runs: &[Run]) -> Result<(), Error> {
    let ungraded: Vec<&Run> = runs
        .iter()
        .filter(|run| run.state != RunState::Finished)
        .collect();
    match ungraded.first() {
        None => Ok(()),
        Some(first) => Err(Error::Failed(format!(
            "{} of {} runs ended without a score; `assay why {}` explains the first",
            ungraded.len(),
            runs.len(),
            first.id
        ))),
    }
}

/// Packs, uploads, registers, shows the policy, then submits.
async fn from_args(context: &Context, api: &Api, args: &SubmitArgs) -> Result<Evaluation, Error> {
    let given = policy::from_args(&args.policy)?;
    // The agent is read first: a broken manifest is told before anything is uploaded.
    let agent = args.agent.as_ref().map(agent_of).transpose()?;
    let origin = match args.replay {
        Some(run) => Some(Origin::find(api, run).await?),
        None => None,
    };
    let policy = match &origin {
        Some(origin) => origin.policy(args.policy.is_given().then_some(given)),
        None => given,
    };
    let replayed = origin.as_ref().filter(|_| args.tasks.is_empty());
    let mut tasks: Vec<Digest> = replayed.map(|origin| origin.run.task).into_iter().collect();
    for task in &args.tasks {
        tasks.push(register_task(context, api, task).await?);
    }
    let runs = u64::try_from(tasks.len())
        .unwrap_or(u64::MAX)
        .saturating_mul(u64::from(args.repeats));
    let contract = agent.as_ref().map(|agent| agent.contract);
    let contract = contract.or(origin.as_ref().map(|origin| origin.agent.contract));
    let missing = || Error::Usage("name an agent with --agent".to_owned());
    let shown = policy::describe(&policy, contract.ok_or_else(missing)?, runs);
    context.screen.note(shown);
    let agent = match (agent, origin) {
        (Some(agent), _) => register_agent(api, agent).await?,
        (None, Some(origin)) => origin.agent,
        (None, None) => return Err(missing()),
    };
    let evaluation = NewEvaluation {
        repeats: args.repeats,
        class: args.class.clone(),
        priority: args.priority,
        values: args.values.iter().cloned().collect(),
        secrets: secrets(&args.secrets)?,
        ..evaluation(&agent, tasks, policy)
    };
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => random_key()?,
    };
    api.submit(&evaluation, &key).await
}

/// Reads each value from the environment.
fn secrets(choices: &[SecretChoice]) -> Result<BTreeMap<String, SecretValue>, Error> {
    let read = |choice: &SecretChoice| {
        let SecretChoice { name, host, header } = choice;
        let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
        let missing = || Error::Usage(format!("--secret {name}: no such environment variable"));
        let value = value.ok_or_else(missing)?;
        let secret = SecretValue {
            value: Secret::new(value),
            host: host.clone(),
            header: header.clone(),
        };
        secret
            .check()
            .map_err(|error| Error::Usage(format!("--secret {name}: {error}")))?;
        Ok((name.clone(), secret))
    };
    choices.iter().map(read).collect()
}

/// An evaluation with nothing but agent, tasks and policy.
pub(super) fn evaluation(agent: &Agent, tasks: Vec<Digest>, policy: Policy) -> NewEvaluation {
    NewEvaluation {
        agent: agent.id,
        tasks,
        task_set: None,
        policy,
        repeats: 1,
        class: "1".to_owned(),
        priority: 5,
        values: BTreeMap::new(),
        secrets: BTreeMap::new(),
    }
}

/// A key for one submission.
pub(super) fn random_key() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Software(format!("no random bytes: {error}")))?;
    Ok(assay_core::digest::hex(&bytes))
}

/// Uploads and registers a task's folder; a digest names one that is registered already.
pub(super) async fn register_task(context: &Context, api: &Api, task: &str) -> Result<Digest, Error> {
    if let Ok(digest) = task.parse::<Digest>() {
        return Ok(api.task(digest).await?.digest);
    }
    let folder = Path::new(task);
    if !folder.join("task.toml").is_file() {
        return Err(Error::NoInput(format!(
            "{task} has no task.toml; name the folder of a task, or make one with `assay task init {task}`"
        )));
    }
    let name = bundle::folder_name(folder)?;
    let archive = bundle::pack(folder)?;
    bundle::upload(api, &archive).await?;
    let registered = api
        .register_task(&NewTask {
            digest: archive.digest,
            name,
        })
        .await?;
    for warning in &registered.warnings {
        context
            .screen
            .note(crate::screen::harmless(&format!("{task}: warning: {warning}")));
    }
    Ok(registered.digest)
}

/// An agent before it is registered.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) contract: Contract,
    pub(super) folder: Option<PathBuf>,
}

/// Reads what `--agent` names.
pub(super) fn agent_of(choice: &AgentChoice) -> Result<Candidate, Error> {
    match choice {
        AgentChoice::BuiltIn(contract) => Ok(Candidate {
            name: contract.name().to_owned(),
            contract: *contract,
            folder: None,
        }),
        AgentChoice::Folder(folder) => {
            let manifest = manifest(folder)?;
            Ok(Candidate {
                name: manifest.name,
                contract: manifest.contract,
                folder: Some(folder.clone()),
            })
        }
    }
}

/// Reads `agent.toml` of a folder.
pub(super) fn manifest(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join("agent.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let hint = "name `oracle`, `nop` or the folder of an agent; `assay agent init DIR` makes one";
        Error::NoInput(format!("cannot read {}: {error}; {hint}", path.display()))
    })?;
    Manifest::parse(&text).map_err(|error| Error::Data(format!("{}: {error}", folder.display())))
}

/// Uploads the bundle, if there is one, and registers the agent.
pub(super) async fn register_agent(api: &Api, agent: Candidate) -> Result<Agent, Error> {
    let digest = match &agent.folder {
        None => None,
        Some(folder) => {
            let archive = bundle::pack(folder)?;
            bundle::upload(api, &archive).await?;
            Some(archive.digest)
        }
    };
    let (name, contract) = (agent.name, agent.contract);
    api.register_agent(&NewAgent {
        name,
        contract,
        digest,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::waiting_run;

    #[test]
    fn a_run_without_a_score_makes_the_command_fail_and_a_zero_does_not() {
        let mut run = waiting_run("x");
        run.state = RunState::Finished;
        run.score = Some(0.0);
        assert!(verdict(std::slice::from_ref(&run)).is_ok());
        run.state = RunState::GaveUp;
        let error = verdict(&[run]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("assay why"), "{error}");
    }

    #[test]
    fn an_agent_without_a_manifest_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = agent_of(&AgentChoice::Folder(folder.path().to_owned())).unwrap_err();
        assert!(error.to_string().contains("assay agent init"), "{error}");
    }
}
