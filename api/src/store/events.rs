//! Events of attempts: append-only, numbered without gaps by the fence holder, then given a global cursor.

use assay_core::{
    id::{AttemptId, TenantId},
    phase::Phase,
    wire::{people::Event, worker::NewEvent},
};
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool};

use super::{Error, big, count, small, word};

/// Appends events whose numbers were checked under the attempt's lock.
pub async fn append(
    conn: &mut PgConnection,
    tenant: TenantId,
    attempt: AttemptId,
    events: &[NewEvent],
) -> Result<(), Error> {
    let seqs: Vec<i64> = events.iter().map(|event| big(event.seq)).collect();
    let times: Vec<jiff_sqlx::Timestamp> = events.iter().map(|event| event.at.to_sqlx()).collect();
    let steps: Vec<i32> = events
        .iter()
        .map(|event| i32::try_from(event.step).unwrap_or(i32::MAX))
        .collect();
    let phases: Vec<String> = events.iter().map(|event| event.phase.name().to_owned()).collect();
    let kinds: Vec<String> = events.iter().map(|event| event.kind.clone()).collect();
    let data: Vec<serde_json::Value> = events.iter().map(|event| event.data.clone()).collect();
    sqlx::query!(
        "INSERT INTO events (attempt, tenant, seq, at, step, phase, kind, data)
         SELECT $1, $2, seq, at, step, phase, kind, data
         FROM unnest($3::bigint[], $4::timestamptz[], $5::int[], $6::text[], $7::text[], $8::jsonb[])
              AS given (seq, at, step, phase, kind, data)",
        attempt.0,
        tenant.0,
        &seqs,
        &times as &[jiff_sqlx::Timestamp],
        &steps,
        &phases,
        &kinds,
        &data,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Published events of an attempt after the cursor.
pub async fn page(
    pool: &PgPool,
    tenant: TenantId,
    attempt: AttemptId,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let rows = sqlx::query!(
        r#"SELECT cursor AS "cursor!", seq, at, step, phase, kind, data FROM events
           WHERE attempt = $1 AND tenant = $2 AND cursor > $3 ORDER BY seq LIMIT $4"#,
        attempt.0,
        tenant.0,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Event {
                cursor: row.cursor,
                attempt,
                event: NewEvent {
                    seq: count(row.seq),
                    at: row.at.to_jiff(),
                    step: small("events.step", row.step.into())?,
                    phase: word("events.phase", &row.phase, Phase::from_name)?,
                    kind: row.kind,
                    data: row.data,
                },
            })
        })
        .collect()
}

/// Gives committed events their cursors. One publisher at a time, on whichever replica gets the lock; cursors become
/// visible in their order because the lock is let go after the commit. Returns the attempt of each event published.
pub async fn publish(conn: &mut PgConnection, limit: i64) -> Result<Vec<AttemptId>, Error> {
    let alone = sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "alone!""#, PUBLISHER)
        .fetch_one(&mut *conn)
        .await?;
    if !alone {
        return Ok(Vec::new());
    }
    let published = sqlx::query_scalar!(
        "WITH next AS (
             SELECT attempt, seq FROM events WHERE cursor IS NULL ORDER BY attempt, seq LIMIT $1),
         numbered AS (
             SELECT attempt, seq, nextval('event_cursor') AS cursor FROM (SELECT * FROM next ORDER BY attempt, seq) o)
         UPDATE events e SET cursor = n.cursor FROM numbered n WHERE e.attempt = n.attempt AND e.seq = n.seq
         RETURNING e.attempt",
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(published.into_iter().map(AttemptId).collect())
}

/// Key of the publisher's advisory lock.
const PUBLISHER: i64 = 0x00A5_5A00_0001;
