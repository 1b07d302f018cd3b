//! `task check`: lint, limits, hosts; then oracle must give 1 and nop must give 0.

use std::path::Path;

use assay_core::{agent::Contract, digest::Digest, policy::Policy, task::Task, wire::people::Run};

use super::{Context, submit};
use crate::{
    api::Api,
    args::{AgentChoice, TaskCheckArgs},
    bundle,
    error::Error,
    follow,
    screen::harmless,
    tables,
};

/// Checks a task.
pub(super) async fn check(context: &Context, args: &TaskCheckArgs) -> Result<(), Error> {
    let task = read(&args.dir)?;
    lint(context, args, &task)?;
    if args.static_only {
        return Ok(());
    }
    let api = context.api()?;
    let task = submit::register_task(context, &api, &args.dir.display().to_string()).await?;
    let oracle = prove(context, &api, args, task, Contract::Oracle).await?;
    let nop = prove(context, &api, args, task, Contract::Nop).await?;
    if context.screen.json {
        context
            .screen
            .document(&serde_json::json!({ "task": task, "oracle": oracle, "nop": nop }))?;
    } else {
        context
            .screen
            .line(tables::runs(&[oracle.clone(), nop.clone()]))?;
    }
    let faults: Vec<String> = [(Contract::Oracle, 1.0, &oracle), (Contract::Nop, 0.0, &nop)]
        .into_iter()
        .filter_map(|(contract, expected, run)| fault(contract, expected, run))
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(faults.join("; ")))
    }
}

/// Reads the folder as the API will.
fn read(folder: &Path) -> Result<Task, Error> {
    let name = bundle::folder_name(folder)?;
    let files = bundle::scan(folder)?;
    Task::read(&files, &name).map_err(|error| Error::Data(format!("{}: {error}", folder.display())))
}

/// Says what was found.
fn lint(context: &Context, args: &TaskCheckArgs, task: &Task) -> Result<(), Error> {
    let warnings: Vec<String> = task.warnings.iter().map(ToString::to_string).collect();
    if !context.screen.json {
        let lines = warnings.iter().map(|warning| format!("  warning: {warning}"));
        let head = format!("task {}, {} step(s)", task.name, task.steps.len());
        let text: Vec<String> = std::iter::once(head).chain(lines).collect();
        return context.screen.line(harmless(&text.join("\n")));
    }
    if args.static_only {
        let document = serde_json::json!({ "name": task.name, "warnings": warnings, "config": task.config });
        return context.screen.document(&document);
    }
    Ok(())
}

async fn prove(
    context: &Context,
    api: &Api,
    args: &TaskCheckArgs,
    task: Digest,
    contract: Contract,
) -> Result<Run, Error> {
    let candidate = submit::agent_of(&AgentChoice::BuiltIn(contract))?;
    let agent = submit::register_agent(api, candidate).await?;
    let mut evaluation = submit::evaluation(&agent, vec![task], Policy::default());
    evaluation.values = args.values.iter().cloned().collect();
    let evaluation = api.submit(&evaluation, &submit::random_key()?).await?;
    context
        .screen
        .note(format!("{contract}: evaluation {}", evaluation.id));
    let (_, runs) = follow::to_the_end(api, evaluation.id, context.screen).await?;
    let none = || Error::Software(format!("evaluation {} has no run", evaluation.id));
    runs.into_iter().next().ok_or_else(none)
}

fn fault(contract: Contract, expected: f64, run: &Run) -> Option<String> {
    let hits = run
        .score
        .is_some_and(|score| (score - expected).abs() < f64::EPSILON);
    (!hits).then(|| {
        format!(
            "{contract} gave {} instead of {expected}; `assay why {}` and `assay logs {}` show the reason",
            follow::score(run.score),
            run.id,
            run.id
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oracle_and_nop_have_to_hit_their_score_exactly() {
        let mut run = follow::tests::waiting_run("x");
        run.score = Some(1.0);
        assert!(fault(Contract::Oracle, 1.0, &run).is_none());
        assert!(
            fault(Contract::Nop, 0.0, &run)
                .unwrap()
                .contains("nop gave 1 instead of 0")
        );
        run.score = None;
        assert!(
            fault(Contract::Oracle, 1.0, &run)
                .unwrap()
                .contains("oracle gave –")
        );
    }
}
