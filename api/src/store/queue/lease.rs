//! Leases: heartbeats, hand-over, what has run out, what may be deleted.

use assay_core::{
    id::{AttemptId, WorkerId},
    wire::worker::{Beaten, Lease},
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    super::{Error, big},
    millis,
};

fn columns(leases: &[Lease]) -> (Vec<Uuid>, Vec<i64>) {
    leases
        .iter()
        .map(|lease| (lease.attempt.0, big(lease.fence.0)))
        .unzip()
}

/// Renews every lease that the worker still holds, in one statement.
pub async fn beat(pool: &PgPool, worker: WorkerId, leases: &[Lease], lease_ms: u64) -> Result<Beaten, Error> {
    let (attempts, fences) = columns(leases);
    let held = sqlx::query!(
        r#"WITH mine AS (
               SELECT q.run FROM run_queue q
               JOIN unnest($2::uuid[], $3::bigint[]) AS l (attempt, fence) ON q.attempt = l.attempt AND q.fence = l.fence
               WHERE q.state = 'leased' AND q.lease_owner = $1 AND NOT q.handed_off ORDER BY q.run FOR UPDATE OF q)
           UPDATE run_queue q SET lease_until = now() + $4::float8 * interval '1 ms'
           FROM mine WHERE q.run = mine.run
           RETURNING q.attempt AS "attempt!", q.cancel"#,
        worker.0,
        &attempts,
        &fences,
        millis(lease_ms),
    )
    .fetch_all(pool)
    .await?;
    let lost = |lease: &&Lease| !held.iter().any(|row| row.attempt == lease.attempt.0);
    Ok(Beaten {
        lost: leases.iter().filter(lost).map(|lease| lease.attempt).collect(),
        cancel: held
            .iter()
            .filter(|row| row.cancel)
            .map(|row| AttemptId(row.attempt))
            .collect(),
    })
}

/// Gives leases back, to be adopted at once. Those that are not held any more are left alone.
pub async fn hand_off(pool: &PgPool, worker: WorkerId, leases: &[Lease]) -> Result<(), Error> {
    let (attempts, fences) = columns(leases);
    sqlx::query!(
        "WITH mine AS (
             SELECT q.run FROM run_queue q
             JOIN unnest($2::uuid[], $3::bigint[]) AS l (attempt, fence) ON q.attempt = l.attempt AND q.fence = l.fence
             WHERE q.state = 'leased' AND q.lease_owner = $1 ORDER BY q.run FOR UPDATE OF q)
         UPDATE run_queue q SET handed_off = TRUE, lease_until = now() FROM mine WHERE q.run = mine.run",
        worker.0,
        &attempts,
        &fences,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Locks leases that nobody renewed or adopted for two lease times after they ran out.
pub async fn lock_lost(
    conn: &mut PgConnection,
    lease_ms: u64,
    limit: i64,
) -> Result<Vec<(AttemptId, u64)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT attempt AS "attempt!", fence FROM run_queue
           WHERE state = 'leased' AND lease_until < now() - 2 * $1::float8 * interval '1 ms'
           ORDER BY run LIMIT $2 FOR UPDATE SKIP LOCKED"#,
        millis(lease_ms),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (AttemptId(row.attempt), super::super::count(row.fence)))
        .collect())
}

/// Of these attempts, those that are closed, unknown, or past their deadline without a living lease.
pub async fn deletable(pool: &PgPool, attempts: &[AttemptId]) -> Result<Vec<AttemptId>, Error> {
    let ids: Vec<Uuid> = attempts.iter().map(|attempt| attempt.0).collect();
    let rows = sqlx::query_scalar!(
        r#"SELECT given.id AS "id!" FROM unnest($1::uuid[]) AS given (id)
           WHERE NOT EXISTS (
               SELECT 1 FROM attempts a JOIN run_queue q ON q.attempt = a.id AND q.state = 'leased'
               WHERE a.id = given.id AND a.state = 'open'
                 AND (a.deadline > now() OR (q.lease_until > now() AND NOT q.handed_off)))"#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(AttemptId).collect())
}
