//! Runs as people see them, and how their rows move.

use assay_core::{
    cause::Cause,
    id::{AttemptId, EvaluationId, RunId, TenantId},
    money::PicoUsd,
    phase::Phase,
    wire::people::{Run, RunState},
};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, count, digest, small, word};

struct Row {
    id: Uuid,
    evaluation: Uuid,
    task: String,
    task_name: String,
    repeat: i32,
    state: String,
    phase: Option<String>,
    not_before: Timestamp,
    attempts: i32,
    score: Option<f64>,
    cause: Option<String>,
    detail: Option<String>,
    cost_pico: i64,
    tokens: i64,
    denied: i64,
    replayed: bool,
    worker: Option<String>,
    last_attempt: Option<Uuid>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl TryFrom<Row> for Run {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let state = word("runs.state", &row.state, state_of)?;
        let running = state == RunState::Running;
        let phase = row.phase.filter(|_| running);
        let cause = row
            .cause
            .map(|cause| word("runs.cause", &cause, Cause::from_name));
        Ok(Self {
            id: RunId(row.id),
            evaluation: EvaluationId(row.evaluation),
            task: digest("runs.task", &row.task)?,
            task_name: row.task_name,
            repeat: small("runs.repeat", row.repeat.into())?,
            state,
            phase: phase
                .map(|name| word("attempts.phase", &name, Phase::from_name))
                .transpose()?,
            not_before: row.not_before.to_jiff(),
            attempts: small("runs.attempts", row.attempts.into())?,
            score: row.score,
            cause: cause.transpose()?,
            detail: row.detail,
            cost: PicoUsd::from_i64(row.cost_pico),
            tokens: count(row.tokens),
            denied: count(row.denied),
            replayed: row.replayed,
            worker: row.worker.filter(|_| running),
            attempt: row.last_attempt.map(AttemptId),
            created_at: row.created_at.to_jiff(),
            started_at: row.started_at.map(Timestamp::to_jiff),
            finished_at: row.finished_at.map(Timestamp::to_jiff),
        })
    }
}

fn state_of(word: &str) -> Option<RunState> {
    match word {
        "queued" => Some(RunState::Queued),
        "running" => Some(RunState::Running),
        "finished" => Some(RunState::Finished),
        "gave_up" => Some(RunState::GaveUp),
        "cancelled" => Some(RunState::Cancelled),
        _ => None,
    }
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// This run alone.
    pub id: Option<RunId>,
    /// Those of this evaluation.
    pub evaluation: Option<EvaluationId>,
    /// Those after this one.
    pub cursor: Option<Uuid>,
}

/// In the order of submission, after the cursor.
pub async fn page(pool: &PgPool, tenant: TenantId, filter: Filter, limit: i64) -> Result<Vec<Run>, Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT r.id, r.evaluation AS "evaluation!", r.task, r.task_name, r.repeat, r.state, a.phase AS "phase?",
                  r.not_before, r.attempts, r.score, r.cause, r.detail, r.cost_pico, r.tokens, r.denied, r.worker,
                  r.last_attempt, r.created_at, r.started_at, r.finished_at, p.body ? 'replay' AS "replayed!"
           FROM runs r LEFT JOIN attempts a ON a.id = r.last_attempt
           JOIN evaluations e ON e.id = r.evaluation JOIN policies p ON p.digest = e.policy
           WHERE r.tenant = $1 AND r.kind = 'evaluation' AND ($2::uuid IS NULL OR r.id = $2)
             AND ($3::uuid IS NULL OR r.evaluation = $3) AND ($4::uuid IS NULL OR r.id > $4)
           ORDER BY r.id LIMIT $5"#,
        tenant.0,
        filter.id.map(|id| id.0),
        filter.evaluation.map(|id| id.0),
        filter.cursor,
        limit
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Run::try_from)
    .collect()
}

/// The run of that id.
pub async fn find(pool: &PgPool, tenant: TenantId, id: RunId) -> Result<Option<Run>, Error> {
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    Ok(page(pool, tenant, filter, 1).await?.pop())
}

/// How an attempt changes its run.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The run's new state.
    pub state: &'static str,
    /// The score, when it is finished.
    pub score: Option<f64>,
    /// The cause of the attempt.
    pub cause: Cause,
    /// That in a sentence.
    pub detail: &'a str,
    /// What the attempt spent.
    pub cost: PicoUsd,
    /// Its tokens.
    pub tokens: u64,
    /// Its refusals.
    pub denied: u64,
    /// Milliseconds until the next claim, for a retry.
    pub delay_ms: u64,
}

/// Books an ended attempt on its run.
pub async fn book(conn: &mut PgConnection, run: RunId, change: &Change<'_>) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE runs
         SET state = $2, score = $3, cause = $4, detail = $5, cost_pico = LEAST(cost_pico::numeric + $6::bigint, 9223372036854775807),
             tokens = tokens + $7, denied = denied + $8, worker = NULL,
             proxy_losses = proxy_losses + ($4 = 'proxy_lost')::int,
             not_before = now() + $9::float8 * interval '1 ms',
             finished_at = CASE WHEN $2 IN ('finished', 'gave_up', 'cancelled') THEN now() END
         WHERE id = $1",
        run.0,
        change.state,
        change.score,
        change.cause.name(),
        change.detail,
        change.cost.as_i64(),
        super::big(change.tokens),
        super::big(change.denied),
        super::queue::millis(change.delay_ms),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends runs that were never claimed or wait for a retry.
pub async fn end_cancelled(conn: &mut PgConnection, runs: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE runs SET state = 'cancelled', cause = 'cancelled', detail = 'cancelled before it was claimed',
                         finished_at = now()
         WHERE id = ANY($1)",
        runs
    )
    .execute(conn)
    .await?;
    Ok(())
}
