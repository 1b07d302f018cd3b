//! `list` and `show`.

use assay_core::{
    id::EvaluationId,
    wire::people::{Evaluation, Run},
};

use super::Context;
use crate::{args::ListArgs, error::Error, follow, policy, tables};

/// Lists evaluations.
pub(super) async fn list(context: &Context, args: &ListArgs) -> Result<(), Error> {
    let evaluations = context.api()?.evaluations(args.number).await?;
    if context.screen.json {
        return context.screen.document(&evaluations);
    }
    if evaluations.is_empty() {
        context
            .screen
            .note("no evaluations yet; submit one with `assay run TASK --agent oracle`");
        return Ok(());
    }
    context.screen.line(tables::evaluations(&evaluations))
}

/// Shows an evaluation.
pub(super) async fn show(context: &Context, id: EvaluationId) -> Result<(), Error> {
    let api = context.api()?;
    let evaluation = api.evaluation(id).await?;
    let runs = api.runs(id).await?;
    if context.screen.json {
        return document(context, &evaluation, &runs);
    }
    let contract = contract(&evaluation);
    let all = u64::try_from(runs.len()).unwrap_or(u64::MAX);
    context.screen.line(format!(
        "evaluation {}  {}  agent {}  score {}  cost {} USD\n{}\n\n{}",
        evaluation.id,
        tables::evaluation_state(&evaluation),
        crate::screen::harmless(&evaluation.agent_name),
        follow::score(evaluation.score),
        tables::usd(evaluation.cost),
        policy::describe(&evaluation.policy, contract, all),
        tables::runs(&runs),
    ))
}

/// An evaluation and its runs as one JSON document.
pub(super) fn document(context: &Context, evaluation: &Evaluation, runs: &[Run]) -> Result<(), Error> {
    context
        .screen
        .document(&serde_json::json!({ "evaluation": evaluation, "runs": runs }))
}

/// The evaluation does not carry its agent's contract; built-in agents are known by their name.
fn contract(evaluation: &Evaluation) -> assay_core::agent::Contract {
    use assay_core::agent::Contract;
    Contract::from_name(&evaluation.agent_name)
        .filter(|contract| !contract.has_bundle())
        .unwrap_or(Contract::Command)
}
