//! Puts an evaluation and its runs into the store and the queue, in one transaction.

use assay_core::{
    id::{AgentId, EvaluationId, TaskSetId, TenantId},
    money::PicoUsd,
    policy::Policy,
    price::PriceTable,
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, big, to_json};

/// An evaluation that has passed every check.
#[derive(Debug)]
pub struct Submission {
    /// Its id.
    pub id: EvaluationId,
    /// Its owner.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The task set, where one was named.
    pub task_set: Option<TaskSetId>,
    /// The policy.
    pub policy: Policy,
    /// Prices of the policy's models.
    pub prices: PriceTable,
    /// Named values of templates.
    pub values: serde_json::Value,
    /// Sealed secret values, where there are any.
    pub secrets_sealed: Option<Vec<u8>>,
    /// Which workers may take the runs.
    pub class: String,
    /// 0 to 9, lower is sooner.
    pub band: i16,
    /// How often each task is run.
    pub repeats: u32,
    /// The caller's key against doubles.
    pub idempotency_key: Option<String>,
    /// Digest of the request that came with it.
    pub request_digest: String,
    /// The runs.
    pub runs: Vec<NewRun>,
}

/// One run of a submission.
#[derive(Debug)]
pub struct NewRun {
    /// Its id.
    pub id: Uuid,
    /// Its task.
    pub task: String,
    /// Its task's name.
    pub task_name: String,
    /// Which repeat, from 0.
    pub repeat: i32,
    /// Longest time for one attempt, seconds.
    pub longest_sec: f64,
}

/// The evaluation and the request's digest that this idempotency key stands for.
pub async fn earlier(
    pool: &PgPool,
    tenant: TenantId,
    key: &str,
) -> Result<Option<(EvaluationId, String)>, Error> {
    let row = sqlx::query!(
        "SELECT id, request_digest FROM evaluations WHERE tenant = $1 AND idempotency_key = $2",
        tenant.0,
        key
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| (EvaluationId(row.id), row.request_digest)))
}

/// Keeps everything. A second evaluation with the same idempotency key fails as a duplicate.
pub async fn insert(conn: &mut PgConnection, new: &Submission) -> Result<(), Error> {
    insert_evaluation(conn, new).await?;
    insert_runs(conn, new).await?;
    insert_purses(conn, new).await
}

async fn insert_evaluation(conn: &mut PgConnection, new: &Submission) -> Result<(), Error> {
    let policy = new.policy.digest().to_string();
    sqlx::query!(
        "INSERT INTO policies (digest, body) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        policy,
        to_json("policies.body", &new.policy)?
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"INSERT INTO evaluations (id, tenant, agent, task_set, policy, prices, "values", class, band, repeats,
                                    idempotency_key, request_digest, total, secrets_sealed)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"#,
        new.id.0,
        new.tenant.0,
        new.agent.0,
        new.task_set.map(|set| set.0),
        policy,
        to_json("evaluations.prices", &new.prices)?,
        new.values,
        new.class,
        new.band,
        i32::try_from(new.repeats).unwrap_or(i32::MAX),
        new.idempotency_key,
        new.request_digest,
        i32::try_from(new.runs.len()).unwrap_or(i32::MAX),
        new.secrets_sealed,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_runs(conn: &mut PgConnection, new: &Submission) -> Result<(), Error> {
    let ids: Vec<Uuid> = new.runs.iter().map(|run| run.id).collect();
    let tasks: Vec<String> = new.runs.iter().map(|run| run.task.clone()).collect();
    let names: Vec<String> = new.runs.iter().map(|run| run.task_name.clone()).collect();
    let repeats: Vec<i32> = new.runs.iter().map(|run| run.repeat).collect();
    let longest: Vec<f64> = new.runs.iter().map(|run| run.longest_sec).collect();
    sqlx::query!(
        "WITH made AS (
             INSERT INTO runs (id, tenant, kind, evaluation, task, task_name, repeat, longest_sec)
             SELECT id, $1, 'evaluation', $2, task, name, repeat, longest
             FROM unnest($3::uuid[], $4::text[], $5::text[], $6::int[], $7::float8[])
                  AS given (id, task, name, repeat, longest))
         INSERT INTO run_queue (run, tenant, evaluation, kind, class, band, task, repeat, state)
         SELECT id, $1, $2, 'evaluation', $8, $9, task, repeat, 'ready'
         FROM unnest($3::uuid[], $4::text[], $6::int[]) AS given (id, task, repeat)",
        new.tenant.0,
        new.id.0,
        &ids,
        &tasks,
        &names,
        &repeats,
        &longest,
        new.class,
        new.band,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Purses of runs without money are left out: what is absent cannot be spent.
async fn insert_purses(conn: &mut PgConnection, new: &Submission) -> Result<(), Error> {
    let budget = &new.policy.budget;
    let each = budget.run_usd + budget.verifier_usd;
    if each.is_zero() {
        return Ok(());
    }
    let runs = u64::try_from(new.runs.len()).unwrap_or(u64::MAX);
    let whole: PicoUsd = budget.ceiling_usd.unwrap_or_else(|| each.times(runs));
    let ids: Vec<Uuid> = new.runs.iter().map(|run| run.id).collect();
    sqlx::query!(
        "INSERT INTO purses (level, owner, purpose, granted)
         SELECT 3, id, purpose, granted
         FROM unnest($1::uuid[]) AS run (id),
              (VALUES ('agent', $2::bigint), ('verifier', $3::bigint)) AS purse (purpose, granted)
         WHERE granted > 0
         UNION ALL SELECT 2, $4::uuid, 'all', $5::bigint
         UNION ALL SELECT 1, $6::uuid, 'all', NULL
         ON CONFLICT (level, owner, purpose) DO NOTHING",
        &ids,
        big(budget.run_usd.pico()),
        big(budget.verifier_usd.pico()),
        new.id.0,
        whole.as_i64(),
        new.tenant.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}
