//! `task check`: lint, limits, hosts; then oracle must give 1 and nop must give 0.

use std::path::Path;

use assay_core::{
    agent::Contract,
    digest::Digest,
    limits::LimitSettings,
    policy::Policy,
    task::{
        Task,
        compose::{Service, ServiceImage},
        plan::{Circumstances, GpuSupport, Gpus, Plan, Unplannable},
    },
    wire::people::Run,
};

use super::{Context, submit};
use crate::{
    api::Api,
    args::{AgentChoice, TaskCheckArgs},
    bundle,
    error::Error,
    follow, policy,
    screen::harmless,
    tables,
};

/// Checks a task.
pub(super) async fn check(context: &Context, args: &TaskCheckArgs) -> Result<(), Error> {
    let task = read(&args.dir)?;
    if args.static_only {
        let facts = lint(context, args, &task, &LimitSettings::default())?;
        return if context.screen.json {
            context.screen.document(&facts)
        } else {
            Ok(())
        };
    }
    let api = context.api()?;
    let facts = lint(context, args, &task, &api.limits().await?)?;
    let digest = submit::register_task(context, &api, &args.dir.display().to_string()).await?;
    let mut runs = Vec::new();
    let mut faults = Vec::new();
    for (contract, expected) in [(Contract::Oracle, 1.0), (Contract::Nop, 0.0)] {
        if contract == Contract::Oracle && !has_solution(&task) {
            faults.push(
                "oracle has no solution/solve.sh to run, so nothing shows that the task can be solved"
                    .to_owned(),
            );
            continue;
        }
        let run = prove(context, &api, args, digest, contract).await?;
        faults.extend(fault(contract, expected, &run));
        runs.push((contract, expected, run));
    }
    show(context, facts, digest, &runs)?;
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(faults.join("; ")))
    }
}

fn has_solution(task: &Task) -> bool {
    task.steps.iter().all(|step| step.solution.is_some())
}

fn show(
    context: &Context,
    facts: serde_json::Value,
    task: Digest,
    runs: &[(Contract, f64, Run)],
) -> Result<(), Error> {
    if context.screen.json {
        let by_agent = runs.iter().map(|(contract, _, run)| (contract.name(), run));
        let mut document = facts;
        document["task"] = serde_json::json!(task);
        for (name, run) in by_agent {
            document[name] = serde_json::json!(run);
        }
        return context.screen.document(&document);
    }
    let rows = runs.iter().map(|(contract, expected, run)| {
        vec![
            contract.to_string(),
            follow::score(run.score),
            follow::score(Some(*expected)),
            run.cause
                .map_or_else(|| "–".to_owned(), |cause| cause.to_string()),
            run.denied.to_string(),
            tables::wall(run.started_at, run.finished_at),
            run.id.to_string(),
        ]
    });
    let head = ["agent", "score", "expected", "cause", "denied", "wall", "run"];
    context.screen.table(&head, rows.collect())
}

/// Reads the folder as the API will.
fn read(folder: &Path) -> Result<Task, Error> {
    let name = bundle::folder_name(folder)?;
    let files = bundle::scan(folder)?;
    let mut task =
        Task::read(&files, &name).map_err(|error| Error::Data(format!("{}: {error}", folder.display())))?;
    task.warnings = task.lint(&files);
    Ok(task)
}

/// What was found, and which limits and hosts hold under the default policy and the operator's settings, as a document;
/// where text is wanted, it is printed. Without an API to ask, the settings are the built-in ones.
fn lint(
    context: &Context,
    args: &TaskCheckArgs,
    task: &Task,
    settings: &LimitSettings,
) -> Result<serde_json::Value, Error> {
    let warnings: Vec<String> = task.warnings.iter().map(ToString::to_string).collect();
    let values = args.values.iter().cloned().collect();
    let given = Circumstances {
        // Without a solution only the oracle has no plan.
        contract: if has_solution(task) {
            Contract::Oracle
        } else {
            Contract::Nop
        },
        policy: &Policy::default(),
        settings,
        values: &values,
        // Only a screener knows what it has; the task's warnings say so.
        gpus: GpuSupport::Typed,
    };
    let plan = Plan::of(task, &given).map_err(|error| {
        let hint = match error {
            Unplannable::Unresolved(_) => "; give one with --value NAME=VALUE",
            Unplannable::Host(_)
            | Unplannable::NoSolution(_)
            | Unplannable::TooMuch(_)
            | Unplannable::Gpus { .. }
            | Unplannable::PatchOnSteps
            | Unplannable::SeparateNotPossible => "",
        };
        Error::Data(format!("{}: {error}{hint}", args.dir.display()))
    })?;
    if !context.screen.json {
        let lines = warnings.iter().map(|warning| format!("  warning: {warning}"));
        let text: Vec<String> = lines.chain(describe(&plan)).collect();
        let text = format!("task {}\n{}", plan.name, text.join("\n"));
        context.screen.line(harmless(&text))?;
    }
    Ok(serde_json::json!({
        "name": plan.name, "warnings": warnings, "config": task.config, "limits": plan.limits,
        "gpus": plan.gpus, "services": plan.services,
        "egress": {
            "build": plan.build_egress, "setup": plan.setup_egress,
            "steps": plan.steps.iter().map(|step| serde_json::json!({
                "name": step.files.name, "agent": step.agent.egress, "agent_sec": step.agent.timeout_sec,
                "verify": step.verifier.egress, "verifier_sec": step.verifier.timeout_sec,
                "verifier": step.verifier.mode.name(),
            })).collect::<Vec<_>>(),
        },
    }))
}

/// Effective limits, and what each phase may reach, one fact a line.
fn describe(plan: &Plan) -> Vec<String> {
    let limits = &plan.limits;
    let mut lines = vec![format!(
        "  sandbox  {} milli-cores, {} MiB memory, {} MiB disk, {} processes",
        limits.cpu_milli, limits.memory_mb, limits.storage_mb, limits.pids
    )];
    lines.extend(gpus(&plan.gpus));
    lines.extend(plan.services.iter().map(service));
    lines.extend([
        format!(
            "  build    {} s, reaches {}",
            limits.build_sec,
            policy::egress(&plan.build_egress)
        ),
        format!(
            "  setup    {} s, reaches {}",
            limits.setup_sec,
            policy::egress(&plan.setup_egress)
        ),
    ]);
    for step in &plan.steps {
        if let Some(name) = &step.files.name {
            lines.push(format!("  step {name}"));
        }
        lines.push(format!(
            "  agent    {} s, reaches {}, beside the models of a policy",
            step.agent.timeout_sec,
            policy::egress(&step.agent.egress)
        ));
        lines.push(format!(
            "  verify   {} s, {}, reaches {}",
            step.verifier.timeout_sec,
            step.verifier.mode.name(),
            policy::egress(&step.verifier.egress)
        ));
    }
    lines
}

fn gpus(gpus: &Gpus) -> Option<String> {
    let types = if gpus.types.is_empty() {
        "any type".to_owned()
    } else {
        gpus.types.join(" or ")
    };
    (gpus.count > 0).then(|| format!("  GPUs     {}, {types}", gpus.count))
}

/// A container beside the task's own one.
fn service(service: &Service) -> String {
    let image = match &service.image {
        ServiceImage::Build { context, .. } => format!("built from {context}"),
        ServiceImage::Prebuilt { image } => image.clone(),
    };
    let ready = match &service.healthcheck {
        Some(check) => format!("ready within {} s", check.longest().as_secs()),
        None => "ready when it has started".to_owned(),
    };
    format!(
        "  service  {}: {image}, {} milli-cores, {} MiB memory, {} processes, {ready}",
        service.name,
        service.cpu_milli,
        service.memory_bytes >> 20,
        service.pids
    )
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
        let gave = match (run.score, run.cause) {
            (None, Some(cause)) => format!("has no score ({cause}: {})", last_line(run)),
            (None, None) => "has no score".to_owned(),
            (Some(_), _) if run.denied > 0 => format!(
                "gave {} (the proxy refused {} connections; `assay logs {} --proxy` names them)",
                follow::score(run.score),
                run.denied,
                run.id
            ),
            (Some(_), _) => format!("gave {}", follow::score(run.score)),
        };
        format!(
            "{contract} {gave} instead of {expected}; `assay why {}` and `assay logs {}` show the reason",
            run.id, run.id
        )
    })
}

/// What the last line of a longer reason says: that is where builders and shells name the fault.
fn last_line(run: &Run) -> String {
    let detail = run.detail.as_deref().unwrap_or_default();
    let line = detail.lines().rfind(|line| !line.trim().is_empty());
    harmless(line.unwrap_or("no reason is known"))
        .chars()
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_and_hosts_of_the_template_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("hello");
        let context = Context {
            global: crate::args::Global::for_tests(folder.path()),
            places: crate::profile::Places {
                config: dir.clone(),
                state: dir.clone(),
            },
            screen: crate::screen::Screen {
                json: false,
                is_terminal: false,
            },
        };
        crate::cmd::task::init(&context, &crate::args::InitArgs { dir: dir.clone() }).unwrap();
        let task = read(&dir).unwrap();
        let (policy, settings, values) = (
            Policy::default(),
            LimitSettings::default(),
            std::collections::BTreeMap::new(),
        );
        let contract = Contract::Oracle;
        let given = Circumstances {
            contract,
            policy: &policy,
            settings: &settings,
            values: &values,
            gpus: GpuSupport::None,
        };
        let text = describe(&Plan::of(&task, &given).unwrap()).join("\n");
        assert!(
            text.contains("512 MiB memory") && text.contains("agent    300 s, reaches nothing"),
            "{text}"
        );
        assert!(task.warnings.is_empty(), "{:?}", task.warnings);
    }

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
        run.cause = Some(assay_core::cause::Cause::ImageBuildFailed);
        run.detail = Some("Step 1\nno such file\n".to_owned());
        let text = fault(Contract::Oracle, 1.0, &run).unwrap();
        assert!(text.contains("image_build_failed: no such file"), "{text}");
        run.cause = None;
        assert!(
            fault(Contract::Oracle, 1.0, &run)
                .unwrap()
                .contains("oracle has no score instead of 1")
        );
    }
}
