//! Reads everything that a worker needs for its attempts.

use std::collections::BTreeMap;

use assay_core::{
    agent::Contract,
    digest::Digest,
    id::{AttemptId, EvaluationId, Fence, RunId, TenantId},
    money::PicoUsd,
    policy::Policy,
    price::PriceTable,
    wire::worker::Progress,
};
use jiff::Timestamp;
use sqlx::PgPool;
use uuid::Uuid;

use super::super::{Error, count, digest, json, small, word};

/// An archive that the object store holds.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
}

/// An assignment without what the store does not know: URLs, model services, the open seed.
#[derive(Debug, Clone)]
pub struct Bare {
    /// The owner.
    pub tenant: TenantId,
    /// The evaluation.
    pub evaluation: EvaluationId,
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: AttemptId,
    /// 1 for the first.
    pub number: u32,
    /// The fence.
    pub fence: Fence,
    /// When the attempt must have ended.
    pub deadline: Timestamp,
    /// The task.
    pub task: Stored,
    /// How the agent is run.
    pub contract: Contract,
    /// The agent's bundle.
    pub agent: Option<Stored>,
    /// The policy.
    pub policy: Policy,
    /// For the agent.
    pub budget: PicoUsd,
    /// For the verifier.
    pub verifier_budget: PicoUsd,
    /// Frozen prices.
    pub prices: PriceTable,
    /// Named values.
    pub values: BTreeMap<String, String>,
    /// Sealed secret values, where there are any.
    pub secrets_sealed: Option<Vec<u8>>,
    /// The sealed seed.
    pub seed_sealed: Vec<u8>,
    /// How far it is.
    pub progress: Progress,
}

/// The assignments of these attempts, which the caller holds: some adopted from others, some new.
pub async fn read(pool: &PgPool, adopted: &[AttemptId], new: &[AttemptId]) -> Result<Vec<Bare>, Error> {
    let ids: Vec<Uuid> = adopted.iter().chain(new).map(|attempt| attempt.0).collect();
    let rows = sqlx::query!(
        r#"SELECT a.id, a.run, a.tenant, a.number, a.fence, a.deadline, a.budget_pico, a.verifier_budget_pico,
                  a.seed_sealed, a.progress, a.last_seq, e.id AS evaluation, e.prices, e."values", e.secrets_sealed, p.body,
                  g.contract, g.digest AS agent_digest, g.name AS agent_name, g.size_bytes AS agent_size,
                  t.digest AS task_digest, t.name AS task_name, t.size_bytes AS task_size
           FROM attempts a
           JOIN runs r ON r.id = a.run
           JOIN evaluations e ON e.id = a.evaluation
           JOIN policies p ON p.digest = e.policy
           JOIN agents g ON g.id = e.agent
           JOIN tasks t ON t.tenant = r.tenant AND t.digest = r.task
           WHERE a.id = ANY($1) ORDER BY array_position($1, a.id)"#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    let mut outputs = offsets(pool, adopted).await?;
    rows.into_iter()
        .map(|row| {
            let mut progress: Progress = json("attempts.progress", row.progress)?;
            progress.seq = count(row.last_seq);
            progress.output = outputs.remove(&row.id).unwrap_or_default();
            let agent = row.agent_digest.map(|text| {
                Ok::<_, Error>(Stored {
                    digest: digest("agents.digest", &text)?,
                    name: row.agent_name,
                    size_bytes: count(row.agent_size),
                })
            });
            Ok(Bare {
                tenant: TenantId(row.tenant),
                evaluation: EvaluationId(row.evaluation),
                run: RunId(row.run),
                attempt: AttemptId(row.id),
                number: small("attempts.number", row.number.into())?,
                fence: Fence(count(row.fence)),
                deadline: row.deadline.to_jiff(),
                task: Stored {
                    digest: digest("tasks.digest", &row.task_digest)?,
                    name: row.task_name,
                    size_bytes: count(row.task_size),
                },
                contract: word("agents.contract", &row.contract, Contract::from_name)?,
                agent: agent.transpose()?,
                policy: json("policies.body", row.body)?,
                budget: PicoUsd::from_i64(row.budget_pico),
                verifier_budget: PicoUsd::from_i64(row.verifier_budget_pico),
                prices: json("evaluations.prices", row.prices)?,
                values: json("evaluations.values", row.values)?,
                secrets_sealed: row.secrets_sealed,
                seed_sealed: row.seed_sealed,
                progress,
            })
        })
        .collect()
}

/// How much output of each stream is there; what is new has none.
async fn offsets(
    pool: &PgPool,
    adopted: &[AttemptId],
) -> Result<BTreeMap<Uuid, BTreeMap<String, u64>>, Error> {
    if adopted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Uuid> = adopted.iter().map(|attempt| attempt.0).collect();
    let rows = sqlx::query!(
        "SELECT attempt, step, phase, stream, bytes FROM output_streams WHERE attempt = ANY($1)",
        &ids
    )
    .fetch_all(pool)
    .await?;
    let mut outputs: BTreeMap<Uuid, BTreeMap<String, u64>> = BTreeMap::new();
    for row in rows {
        let key = format!("{}/{}/{}", row.step, row.phase, row.stream);
        outputs
            .entry(row.attempt)
            .or_default()
            .insert(key, count(row.bytes));
    }
    Ok(outputs)
}
