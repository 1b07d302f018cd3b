//! `POST /v1/workers/{id}/claim`: adopts first, then takes new runs.

use std::collections::BTreeMap;

use assay_core::{
    digest::{Digest, hex},
    id::{AttemptId, TenantId, WorkerId},
    upstream::Secret,
    wire::worker::{Archive, Assignment, Claim, Claimed},
};
use axum::extract::State;

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{Id, Json, WorkerKey},
    objects::{self, Side},
    refusal::Refusal,
    secrets,
    store::{
        self,
        queue::{
            assignment::{Bare, Stored, read},
            claim::{NewAttempt, adopt, lease, lock_ready, reserve},
        },
        workers::Worker,
    },
};

/// Hands out work: adopted attempts first, then new ones, at most as many as asked for.
///
/// One short transaction; URLs are signed after it. What is lost between commit and answer is adopted when its lease ends.
#[utoipa::path(
    post,
    path = "/v1/workers/{id}/claim",
    tag = "workers",
    operation_id = "claim",
    params(("id" = WorkerId, Path, description = "The worker.")),
    request_body = Claim,
    responses((status = 200, body = Claimed)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::CommitMismatch, Code::ObjectsUnavailable])))
)]
pub async fn claim(
    State(app): State<Shared>,
    WorkerKey(caller): WorkerKey,
    Id(id): Id<WorkerId>,
    Json(claim): Json<Claim>,
) -> Result<Json<Claimed>, Refusal> {
    let worker = store::workers::find(&app.pool, id).await?;
    let worker = worker.ok_or_else(|| Refusal::not_found("worker"))?;
    let slots = claim.slots.min(MAX_SLOTS);
    if slots == 0 {
        return Ok(Json(Claimed {
            assignments: Vec::new(),
        }));
    }
    let private = app.privacy.check(&app.catalogue.upstreams).await;
    if let Err(error) = &private {
        tracing::error!(%error, "no new run is handed out");
    }
    let fresh = if private.is_ok() {
        claim.fresh.unwrap_or(slots)
    } else {
        0
    };
    let (adopted, claimed) = take(&app, &worker, slots, fresh).await?;
    app.metrics.adopted.inc_by(adopted.len().try_into().unwrap_or(0));
    app.metrics.claimed.inc_by(claimed.len().try_into().unwrap_or(0));
    let count = adopted.len() + claimed.len();
    let mut assignments = Vec::with_capacity(count);
    if count > 0 {
        for bare in read(&app.pool, &adopted, &claimed).await? {
            let is_adopted = adopted.contains(&bare.attempt);
            tracing::info!(
                run.id = %bare.run, attempt.id = %bare.attempt, fence = bare.fence.0, worker = worker.name,
                adopted = is_adopted, "handed out"
            );
            assignments.push(complete(&app, bare, is_adopted, caller.side).await?);
        }
        // Once all is signed: what the worker compares with its own clock is young.
        let now = store::time(&app.pool).await?;
        for assignment in &mut assignments {
            assignment.now = Some(now);
        }
    }
    Ok(Json(Claimed { assignments }))
}

/// Attempts adopted and attempts new, of these at most `fresh`. Where that is none, what runs still comes to its end.
async fn take(
    app: &App,
    worker: &Worker,
    slots: u32,
    fresh: u32,
) -> Result<(Vec<AttemptId>, Vec<AttemptId>), Refusal> {
    let lease_ms = app.config.lease_ms;
    let mut tx = store::begin(&app.pool).await?;
    let adopted = adopt(&mut tx, worker, slots, lease_ms).await?;
    let left = slots
        .saturating_sub(u32::try_from(adopted.len()).unwrap_or(u32::MAX))
        .min(fresh);
    let mut claimed = Vec::new();
    // A worker of another commit may bring what it holds to an end, but takes nothing new.
    if left > 0 && super::register::same_commit(app, &worker.commit).is_ok() {
        let locked = lock_ready(&mut tx, &worker.class, left).await?;
        let funded = if locked.is_empty() {
            Vec::new()
        } else {
            reserve(&mut tx, &locked).await?
        };
        let attempts = funded
            .into_iter()
            .map(|funded| {
                let (id, mut seed) = (AttemptId(app.id()?), [0; 32]);
                getrandom::fill(&mut seed)?;
                let seed_sealed = app.seal.seal(id.0, &seed)?;
                Ok(NewAttempt {
                    id,
                    funded,
                    seed_sealed,
                })
            })
            .collect::<Result<Vec<_>, Refusal>>()?;
        if !attempts.is_empty() {
            lease(&mut tx, worker, &attempts, &app.limits, lease_ms).await?;
        }
        claimed = attempts.iter().map(|attempt| attempt.id).collect();
    } else if adopted.is_empty() {
        super::register::same_commit(app, &worker.commit)?;
    }
    tx.commit().await?;
    Ok((adopted, claimed))
}

async fn complete(app: &App, bare: Bare, is_adopted: bool, side: Side) -> Result<Assignment, Refusal> {
    let seed = app.seal.open(bare.attempt.0, &bare.seed_sealed)?;
    let secrets = match &bare.secrets_sealed {
        Some(sealed) => secrets::open(app, bare.evaluation, sealed)?,
        None => BTreeMap::new(),
    };
    let archive = async |stored: Stored| -> Result<Archive, Refusal> {
        let key = objects::archive(bare.tenant, stored.digest);
        Ok(Archive {
            digest: stored.digest,
            name: stored.name,
            url: app.objects.presign_get(&key, side).await?,
            size_bytes: stored.size_bytes,
        })
    };
    let agent = match bare.agent {
        Some(stored) => Some(archive(stored).await?),
        None => None,
    };
    let replay = match bare.policy.replay {
        Some(digest) => Some(recording(app, bare.tenant, digest, side).await?),
        None => None,
    };
    Ok(Assignment {
        replay,
        tenant: bare.tenant,
        evaluation: bare.evaluation,
        run: bare.run,
        attempt: bare.attempt,
        number: bare.number,
        fence: bare.fence,
        deadline: bare.deadline,
        now: None,
        task: archive(bare.task).await?,
        contract: bare.contract,
        agent,
        upstreams: app.catalogue.serving(&bare.policy),
        policy: bare.policy,
        budget: bare.budget,
        verifier_budget: bare.verifier_budget,
        prices: bare.prices,
        values: bare.values,
        secrets,
        seed: Secret::new(hex(&seed)),
        adopted: is_adopted.then_some(bare.progress),
    })
}

async fn recording(app: &App, tenant: TenantId, digest: Digest, side: Side) -> Result<Archive, Refusal> {
    let key = objects::recording(tenant, digest);
    Ok(Archive {
        digest,
        name: "recording".to_owned(),
        url: app.objects.presign_get(&key, side).await?,
        // One that went is found out by the worker, as with every archive.
        size_bytes: app.objects.size(&key).await?.unwrap_or(0),
    })
}

/// Runs taken by one claim.
const MAX_SLOTS: u32 = 256;
