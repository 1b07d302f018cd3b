//! `POST /v1/evaluations`: checks everything, then puts one row per run into the queue, in one transaction.

use assay_core::{
    digest::Digest,
    id::{EvaluationId, TenantId},
    policy::{Policy, lint},
    wire::people::{Evaluation, NewEvaluation},
};
use axum::extract::State;
use bytes::Bytes;
use http::HeaderMap;

use crate::{
    app::{App, Shared},
    code::Code,
    deadline,
    extract::{Json, Submitter, parse},
    objects,
    refusal::Refusal,
    routes::task_sets,
    secrets,
    store::{
        self,
        submit::{NewRun, Submission},
        tasks::Brief,
    },
    suffix,
};

/// Submits an evaluation: one row per run is put into the queue, in one transaction.
#[utoipa::path(
    post,
    path = "/v1/evaluations",
    tag = "evaluations",
    operation_id = "submit_evaluation",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable characters, unique per tenant. The same key with the same body answers the first evaluation.")),
    request_body = NewEvaluation,
    responses((status = 200, body = Evaluation)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)), ("x-codes" = json!([Code::IdempotencyKeyReused, Code::PolicyInvalid, Code::ModelUnpriced, Code::RecordingMissing, Code::ObjectsUnavailable, Code::WorkspaceNotPrivate, Code::WorkspaceUnknown, Code::UnknownAgent, Code::UnknownTaskSet, Code::NoTasks, Code::DuplicateTask, Code::UnknownTask, Code::ValueMissing, Code::TooManyRuns])))
)]
pub async fn submit(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Evaluation>, Refusal> {
    let new: NewEvaluation = parse(&body)?;
    let request_digest = Digest::of(&body).to_string();
    let key = idempotency_key(&headers)?;
    if let Some(known) = repeated(&app, caller.tenant, key.as_deref(), &request_digest).await? {
        return Ok(known);
    }
    let mut submission = check(&app, caller.tenant, new).await?;
    submission.idempotency_key.clone_from(&key);
    submission.request_digest.clone_from(&request_digest);
    let mut tx = store::begin(&app.pool).await?;
    if let Err(error) = store::submit::insert(&mut tx, &submission).await {
        drop(tx);
        // A twin of this request may have been quicker.
        let twin = error.is_duplicate() && key.is_some();
        return match repeated(&app, caller.tenant, key.as_deref(), &request_digest).await? {
            Some(known) if twin => Ok(known),
            _ => Err(error.into()),
        };
    }
    let subject = submission.id.to_string();
    store::audit::append(&mut tx, caller.actor(), "evaluation.submit", &subject).await?;
    tx.commit().await?;
    super::find(&app, caller.tenant, submission.id).await
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if (1..=255).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    Err(Refusal::invalid(
        "idempotency-key: want 1 to 255 printable characters",
    ))
}

async fn repeated(
    app: &App,
    tenant: TenantId,
    key: Option<&str>,
    request_digest: &str,
) -> Result<Option<Json<Evaluation>>, Refusal> {
    let Some(key) = key else { return Ok(None) };
    match store::submit::earlier(&app.pool, tenant, key).await? {
        None => Ok(None),
        Some((id, digest)) if digest == request_digest => super::find(app, tenant, id).await.map(Some),
        Some((id, _)) => {
            let detail = format!("this idempotency key stands for another request, evaluation {id}");
            Err(Refusal::new(Code::IdempotencyKeyReused, detail))
        }
    }
}

async fn check(app: &App, tenant: TenantId, new: NewEvaluation) -> Result<Submission, Refusal> {
    check_words(&new)?;
    let policy =
        |error: assay_core::policy::InvalidPolicy| Refusal::new(Code::PolicyInvalid, error.to_string());
    new.policy.check().map_err(policy)?;
    let lints = lint::lint(&new.policy, &suffix::is_public);
    if let Some(error) = lint::first_error(&lints) {
        let detail = format!("policy: {}: {}", error.path, error.message);
        return Err(Refusal::new(Code::PolicyInvalid, detail));
    }
    let prices = app.catalogue.freeze(&new.policy);
    let prices = prices.map_err(|error| Refusal::new(Code::ModelUnpriced, error.to_string()))?;
    match new.policy.replay {
        Some(recording) => check_recording(app, tenant, recording).await?,
        None => app.privacy.check(&app.catalogue.asked_by(&new.policy)).await?,
    }
    let agent = store::agents::find(&app.pool, tenant, new.agent).await?;
    if agent.is_none() {
        let detail = format!("agent {} does not exist", new.agent);
        return Err(Refusal::new(Code::UnknownAgent, detail));
    }
    let tasks = match (new.task_set, new.tasks.is_empty()) {
        (None, _) => new.tasks.clone(),
        (Some(id), true) => {
            let set = store::task_sets::find(&app.pool, tenant, id).await?;
            let unknown = || Refusal::new(Code::UnknownTaskSet, format!("task set {id} does not exist"));
            set.ok_or_else(unknown)?.tasks
        }
        (Some(_), false) => return Err(Refusal::invalid("give tasks or task_set, not both")),
    };
    let tasks = task_sets::known(app, tenant, &tasks).await?;
    check_values(&new, &tasks)?;
    let id = EvaluationId(app.id()?);
    let secrets_sealed = secrets::sealed(app, id, &new)?;
    let runs = runs(app, &new.policy, &tasks, new.repeats)?;
    let values = serde_json::to_value(&new.values).map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(Submission {
        id,
        tenant,
        agent: new.agent,
        task_set: new.task_set,
        policy: new.policy,
        prices,
        values,
        secrets_sealed,
        class: new.class,
        band: new.priority,
        repeats: new.repeats,
        idempotency_key: None,
        request_digest: String::new(),
        runs,
    })
}

/// No service is asked for anything in a replay, not even for its settings.
async fn check_recording(app: &App, tenant: TenantId, digest: Digest) -> Result<(), Refusal> {
    let key = objects::recording(tenant, digest);
    if app.objects.size(&key).await?.is_some() {
        return Ok(());
    }
    let detail = format!("no recording {digest} is kept; POST /v1/runs/{{id}}/recording keeps that of a run");
    Err(Refusal::new(Code::RecordingMissing, detail))
}

fn check_words(new: &NewEvaluation) -> Result<(), Refusal> {
    if !(1..=1000).contains(&new.repeats) {
        return Err(Refusal::invalid("repeats: want 1 to 1000"));
    }
    if !(0..=9).contains(&new.priority) {
        return Err(Refusal::invalid("priority: want 0 to 9"));
    }
    super::super::check_class(&new.class)
}

fn check_values(new: &NewEvaluation, tasks: &[Brief]) -> Result<(), Refusal> {
    for task in tasks {
        if let Some(name) = task
            .needs_values
            .iter()
            .find(|name| !new.values.contains_key(*name) && !new.secrets.contains_key(*name))
        {
            let detail = format!(
                "task {} needs the value {name}; give it in `values` or `secrets`",
                task.name
            );
            return Err(Refusal::new(Code::ValueMissing, detail));
        }
    }
    Ok(())
}

fn runs(app: &App, policy: &Policy, tasks: &[Brief], repeats: u32) -> Result<Vec<NewRun>, Refusal> {
    let repeats = i32::try_from(repeats).unwrap_or(i32::MAX);
    let count = tasks.len() * usize::try_from(repeats).unwrap_or(0);
    if count > MAX_RUNS {
        let detail = format!("{count} runs are more than the {MAX_RUNS} that one evaluation may have");
        return Err(Refusal::new(Code::TooManyRuns, detail));
    }
    let mut runs = Vec::with_capacity(count);
    for repeat in 0..repeats {
        for task in tasks {
            runs.push(NewRun {
                id: app.id()?,
                task: task.digest.clone(),
                task_name: task.name.clone(),
                repeat,
                longest_sec: deadline::longest_sec(&app.catalogue.limits, policy, task.longest_sec),
            });
        }
    }
    Ok(runs)
}

/// Runs of one evaluation.
const MAX_RUNS: usize = 20_000;
