//! Evaluations as people see them. Their counters change in the transaction that ends a run.

use assay_core::{
    id::{AgentId, EvaluationId, TenantId},
    wire::people::{Counts, Evaluation},
};
use jiff_sqlx::Timestamp;
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, count, digest, json, money};

struct Row {
    id: Uuid,
    agent: Uuid,
    agent_name: String,
    policy: String,
    body: serde_json::Value,
    total: i32,
    finished: i32,
    leased: i64,
    graded: i32,
    score_sum: f64,
    cost_pico: Decimal,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    cancelled_at: Option<Timestamp>,
}

impl TryFrom<Row> for Evaluation {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let (total, finished, running) = (i64::from(row.total), i64::from(row.finished), row.leased);
        Ok(Self {
            id: EvaluationId(row.id),
            agent: AgentId(row.agent),
            agent_name: row.agent_name,
            policy_digest: digest("evaluations.policy", &row.policy)?,
            policy: json("policies.body", row.body)?,
            runs: Counts {
                queued: count(total - finished - running),
                running: count(running),
                finished: count(finished),
            },
            score: (row.graded > 0).then(|| row.score_sum / f64::from(row.graded)),
            cost: money(row.cost_pico),
            created_at: row.created_at.to_jiff(),
            finished_at: row.finished_at.map(Timestamp::to_jiff),
            cancelled: row.cancelled_at.is_some(),
        })
    }
}

/// Newest first, before `cursor`; only `id` when it is given.
pub async fn page(
    pool: &PgPool,
    tenant: TenantId,
    id: Option<EvaluationId>,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Evaluation>, Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT e.id, e.agent, a.name AS agent_name, e.policy, p.body, e.total, e.finished, e.graded, e.score_sum,
                  e.cost_pico, e.created_at, e.finished_at, e.cancelled_at,
                  (SELECT count(*) FROM run_queue q
                   WHERE q.state = 'leased' AND q.tenant = e.tenant AND q.evaluation = e.id) AS "leased!"
           FROM evaluations e JOIN agents a ON a.id = e.agent JOIN policies p ON p.digest = e.policy
           WHERE e.tenant = $1 AND ($2::uuid IS NULL OR e.id = $2) AND ($3::uuid IS NULL OR e.id < $3)
           ORDER BY e.id DESC LIMIT $4"#,
        tenant.0,
        id.map(|id| id.0),
        cursor,
        limit
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Evaluation::try_from)
    .collect()
}

/// The evaluation of that id.
pub async fn find(pool: &PgPool, tenant: TenantId, id: EvaluationId) -> Result<Option<Evaluation>, Error> {
    Ok(page(pool, tenant, Some(id), None, 1).await?.pop())
}

/// Counts ended runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ended {
    /// Runs that ended.
    pub runs: i32,
    /// Of these, graded.
    pub graded: i32,
    /// Sum of their scores.
    pub score: f64,
    /// What the attempt spent, pico-USD.
    pub cost_pico: i64,
}

/// Moves the counters; the last run sets `finished_at`, and nobody needs the secret values any more.
pub async fn add(conn: &mut PgConnection, id: Uuid, ended: Ended) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE evaluations
         SET finished = finished + $2, graded = graded + $3, score_sum = score_sum + $4,
             cost_pico = cost_pico + $5::bigint,
             finished_at = CASE WHEN finished + $2 = total THEN now() ELSE finished_at END,
             secrets_sealed = CASE WHEN finished + $2 < total THEN secrets_sealed END
         WHERE id = $1",
        id,
        ended.runs,
        ended.graded,
        ended.score,
        ended.cost_pico,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes the intent to cancel; false when there is no such evaluation.
pub async fn set_cancelled(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: EvaluationId,
) -> Result<bool, Error> {
    let changed = sqlx::query!(
        "UPDATE evaluations SET cancelled_at = COALESCE(cancelled_at, now())
         WHERE tenant = $1 AND id = $2",
        tenant.0,
        id.0
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() == 1)
}
