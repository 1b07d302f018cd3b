//! How much work there is, for whoever scales the workers. Numbers only, the same on every replica.

use sqlx::PgPool;

use super::super::{Error, count};

/// The work of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub class: String,
    /// Evaluations with runs that could be claimed now.
    pub queued_evaluations: u64,
    /// Runs that could be claimed now, counted up to the cap.
    pub queued: u64,
    /// Runs that are held.
    pub leased: u64,
    /// Age of the oldest that could be claimed.
    pub oldest_seconds: u64,
    /// Highest ordinal at the end of a busy worker's name.
    pub busy_ordinal: Option<u64>,
}

/// Counts per class, each at most `cap`.
pub async fn count_classes(pool: &PgPool, cap: i64) -> Result<Vec<Class>, Error> {
    let rows = sqlx::query!(
        r#"WITH RECURSIVE classes AS (
               (SELECT class FROM run_queue WHERE state = 'ready' ORDER BY class LIMIT 1)
               UNION ALL
               SELECT (SELECT q.class FROM run_queue q WHERE q.state = 'ready' AND q.class > c.class
                       ORDER BY q.class LIMIT 1)
               FROM classes c WHERE c.class IS NOT NULL),
           held AS (
               SELECT q.class, count(*) AS leased,
                      max(substring(w.name FROM '-([0-9]{1,9})$')::bigint) AS ordinal
               FROM run_queue q LEFT JOIN workers w ON w.id = q.lease_owner AND NOT q.handed_off
               WHERE q.state = 'leased' GROUP BY q.class),
           every AS (SELECT class FROM classes WHERE class IS NOT NULL UNION SELECT class FROM held)
           SELECT every.class AS "class!", r.queued AS "queued!", r.evaluations AS "evaluations!",
                  r.oldest AS "oldest!", COALESCE(held.leased, 0) AS "leased!", held.ordinal
           FROM every LEFT JOIN held USING (class)
           CROSS JOIN LATERAL (
               SELECT count(*) AS queued, count(DISTINCT evaluation) AS evaluations,
                      COALESCE(floor(extract(epoch FROM now() - min(not_before))), 0)::bigint AS oldest
               FROM (SELECT evaluation, not_before FROM run_queue q
                     WHERE q.state = 'ready' AND q.class = every.class AND q.not_before <= now() LIMIT $1) AS capped) r
           ORDER BY every.class"#,
        cap
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Class {
            class: row.class,
            queued_evaluations: count(row.evaluations),
            queued: count(row.queued),
            leased: count(row.leased),
            oldest_seconds: count(row.oldest),
            busy_ordinal: row.ordinal.map(count),
        })
        .collect())
}
