//! Attempts: what a worker gets, how far it is, how it ended. A closed row never changes again.

use assay_core::{
    cause::Cause,
    digest::Digest,
    id::{AttemptId, Fence, RunId, TenantId},
    phase::Phase,
    wire::{
        people::Attempt,
        worker::{Progress, Report},
    },
};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, big, count, digest, json, small, to_json, word};

struct Row {
    id: Uuid,
    run: Uuid,
    number: i32,
    fence: i64,
    step: i32,
    phase: Option<String>,
    cause: Option<String>,
    detail: Option<String>,
    report: Option<serde_json::Value>,
    worker_name: String,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// The name of the worker that holds an attempt, or held it last.
pub async fn holder(pool: &PgPool, id: AttemptId) -> Result<Option<String>, Error> {
    let holder = sqlx::query_scalar!("SELECT worker_name FROM attempts WHERE id = $1", id.0);
    Ok(holder.fetch_optional(pool).await?)
}

impl TryFrom<Row> for Attempt {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let phase = row
            .phase
            .map(|name| word("attempts.phase", &name, Phase::from_name));
        let cause = row
            .cause
            .map(|name| word("attempts.cause", &name, Cause::from_name));
        Ok(Self {
            id: AttemptId(row.id),
            run: RunId(row.run),
            number: small("attempts.number", row.number.into())?,
            fence: Fence(count(row.fence)),
            step: small("attempts.step", row.step.into())?,
            phase: phase.transpose()?,
            cause: cause.transpose()?,
            detail: row.detail,
            report: row
                .report
                .map(|report| json("attempts.report", report))
                .transpose()?,
            worker: row.worker_name,
            started_at: row.started_at.to_jiff(),
            finished_at: row.finished_at.map(Timestamp::to_jiff),
        })
    }
}

/// The attempts of a run, first one first.
pub async fn of_run(pool: &PgPool, tenant: TenantId, run: RunId) -> Result<Vec<Attempt>, Error> {
    sqlx::query_as!(
        Row,
        "SELECT id, run, number, fence, step, phase, cause, detail, report, worker_name, started_at, finished_at
         FROM attempts WHERE tenant = $1 AND run = $2 ORDER BY number",
        tenant.0,
        run.0
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Attempt::try_from)
    .collect()
}

/// The attempt of that id.
pub async fn find(pool: &PgPool, tenant: TenantId, id: AttemptId) -> Result<Option<Attempt>, Error> {
    sqlx::query_as!(
        Row,
        "SELECT id, run, number, fence, step, phase, cause, detail, report, worker_name, started_at, finished_at
         FROM attempts WHERE tenant = $1 AND id = $2",
        tenant.0,
        id.0
    )
    .fetch_optional(pool)
    .await?
    .map(Attempt::try_from)
    .transpose()
}

/// An attempt as the worker's writes need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its owner.
    pub tenant: TenantId,
    /// Its run.
    pub run: RunId,
    /// The last event.
    pub last_seq: u64,
}

/// Locks the row of an open attempt with that fence against other writes; `None` when the lease is lost.
pub async fn lock_open(conn: &mut PgConnection, id: AttemptId, fence: Fence) -> Result<Option<Open>, Error> {
    let row = sqlx::query!(
        "SELECT tenant, run, last_seq FROM attempts WHERE id = $1 AND fence = $2 AND state = 'open' FOR UPDATE",
        id.0,
        big(fence.0)
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Open {
        tenant: TenantId(row.tenant),
        run: RunId(row.run),
        last_seq: count(row.last_seq),
    }))
}

/// The owner of an open attempt with that fence, without a lock.
pub async fn is_open(pool: &PgPool, id: AttemptId, fence: Fence) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM attempts WHERE id = $1 AND fence = $2 AND state = 'open') AS "open!""#,
        id.0,
        big(fence.0)
    )
    .fetch_one(pool)
    .await?)
}

/// Whose task an open attempt with that fence is about, and which.
pub async fn task(pool: &PgPool, id: AttemptId, fence: Fence) -> Result<Option<(TenantId, Digest)>, Error> {
    let row = sqlx::query!(
        "SELECT r.tenant, r.task FROM attempts a JOIN runs r ON r.id = a.run
         WHERE a.id = $1 AND a.fence = $2 AND a.state = 'open'",
        id.0,
        big(fence.0)
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| Ok((TenantId(row.tenant), digest("runs.task", &row.task)?)))
        .transpose()
}

/// Moves an open attempt. The caller holds its lock.
pub async fn advance(
    conn: &mut PgConnection,
    id: AttemptId,
    last_seq: u64,
    progress: &Progress,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE attempts SET last_seq = $2, step = $3, phase = $4, progress = $5 WHERE id = $1",
        id.0,
        big(last_seq),
        i32::try_from(progress.step).unwrap_or(i32::MAX),
        progress.phase.map(Phase::name),
        to_json("attempts.progress", progress)?,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// The fence that the closed row keeps; late writes carry an older one.
    pub fence: Fence,
    /// The cause that counts.
    pub cause: Cause,
    /// That in a sentence.
    pub detail: &'a str,
    /// The report, where a worker sent one.
    pub report: Option<&'a Report>,
    /// What was spent, at most, pico-USD.
    pub cost_pico: i64,
}

/// Closes an open attempt for good.
pub async fn close(conn: &mut PgConnection, id: AttemptId, closing: &Closing<'_>) -> Result<(), Error> {
    let report = closing
        .report
        .map(|report| to_json("attempts.report", report))
        .transpose()?;
    sqlx::query!(
        "UPDATE attempts SET state = 'closed', fence = $2, cause = $3, detail = $4, report = $5, score = $6,
                             cost_pico = $7, finished_at = now()
         WHERE id = $1",
        id.0,
        big(closing.fence.0),
        closing.cause.name(),
        closing.detail,
        report,
        closing.report.and_then(|report| report.score),
        closing.cost_pico,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Did this very fence close the attempt by a report?
pub async fn was_closed_by(pool: &PgPool, id: AttemptId, fence: Fence) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM attempts
                          WHERE id = $1 AND fence = $2 AND state = 'closed' AND report IS NOT NULL) AS "closed!""#,
        id.0,
        big(fence.0)
    )
    .fetch_one(pool)
    .await?)
}
