//! Takes work: adopts leases that nobody holds, then leases ready runs, all in one short transaction.

use assay_core::{id::AttemptId, wire::worker::Progress};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{Error, purses, workers::Worker},
    millis,
};

/// Adopts leases that ran out or were handed over: the same attempt, the fence one higher.
pub async fn adopt(
    conn: &mut PgConnection,
    worker: &Worker,
    slots: u32,
    lease_ms: u64,
) -> Result<Vec<AttemptId>, Error> {
    let adopted = sqlx::query!(
        r#"WITH free AS (
               SELECT run FROM run_queue
               WHERE state = 'leased' AND class = $2 AND (handed_off OR lease_until < now())
               ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED)
           UPDATE run_queue q
           SET fence = fence + 1, lease_owner = $1, handed_off = FALSE,
               lease_until = now() + $4::float8 * interval '1 ms'
           FROM free WHERE q.run = free.run
           RETURNING q.run, q.attempt AS "attempt!", q.fence"#,
        worker.id.0,
        worker.class,
        i64::from(slots),
        millis(lease_ms),
    )
    .fetch_all(&mut *conn)
    .await?;
    if adopted.is_empty() {
        return Ok(Vec::new());
    }
    let attempts: Vec<Uuid> = adopted.iter().map(|row| row.attempt).collect();
    let fences: Vec<i64> = adopted.iter().map(|row| row.fence).collect();
    let runs: Vec<Uuid> = adopted.iter().map(|row| row.run).collect();
    sqlx::query!(
        "WITH held AS (
             UPDATE attempts a SET fence = n.fence, worker = $3, worker_name = $4
             FROM unnest($1::uuid[], $2::bigint[]) AS n (attempt, fence) WHERE a.id = n.attempt)
         UPDATE runs SET worker = $4 WHERE id = ANY($5)",
        &attempts,
        &fences,
        worker.id.0,
        worker.name,
        &runs,
    )
    .execute(conn)
    .await?;
    Ok(attempts.into_iter().map(AttemptId).collect())
}

/// A ready run that this transaction has locked.
#[derive(Debug, Clone)]
pub struct Locked {
    /// The run.
    pub run: Uuid,
    /// Its owner.
    pub tenant: Uuid,
    /// Its evaluation.
    pub evaluation: Option<Uuid>,
}

/// Locks up to `slots` ready runs: lower bands first, then the tenants with the fewest leases, then the oldest.
///
/// The order is found without locks, for some more runs than wanted, so that claimers beside this one leave enough over.
pub async fn lock_ready(conn: &mut PgConnection, class: &str, slots: u32) -> Result<Vec<Locked>, Error> {
    let candidates = sqlx::query_scalar!(
        r#"WITH RECURSIVE waiting AS (
               (SELECT tenant FROM run_queue WHERE state = 'ready' AND class = $1 ORDER BY tenant LIMIT 1)
               UNION ALL
               SELECT (SELECT q.tenant FROM run_queue q
                       WHERE q.state = 'ready' AND q.class = $1 AND q.tenant > w.tenant ORDER BY q.tenant LIMIT 1)
               FROM waiting w WHERE w.tenant IS NOT NULL)
           SELECT c.run AS "run!"
           FROM (SELECT r.run, r.band, r.not_before, l.leases,
                        row_number() OVER (PARTITION BY w.tenant ORDER BY r.band, r.not_before, r.run) AS place
                 FROM waiting w
                 CROSS JOIN LATERAL (SELECT count(*) AS leases FROM run_queue q
                                     WHERE q.state = 'leased' AND q.tenant = w.tenant) l
                 CROSS JOIN LATERAL (SELECT q.run, q.band, q.not_before FROM run_queue q
                                     WHERE q.state = 'ready' AND q.class = $1 AND q.tenant = w.tenant
                                       AND q.not_before <= now()
                                     ORDER BY q.band, q.not_before, q.run LIMIT $2) r
                 WHERE w.tenant IS NOT NULL) c
           ORDER BY c.band, c.leases + c.place, c.not_before, c.run LIMIT $2"#,
        class,
        i64::from(slots) + SLACK,
    )
    .fetch_all(&mut *conn)
    .await?;
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    // Said so that the index of what is ready does not fit: where statistics lag behind a queue that has just grown, the
    // planner would go through all of that index. A run that is neither blocked nor leased is ready.
    Ok(sqlx::query_as!(
        Locked,
        "SELECT run, tenant, evaluation FROM run_queue
         WHERE run = ANY($1) AND attempt IS NULL AND state <> 'blocked'
         ORDER BY array_position($1, run) LIMIT $2 FOR UPDATE SKIP LOCKED",
        &candidates,
        i64::from(slots),
    )
    .fetch_all(conn)
    .await?)
}

/// A run with the money that is reserved for this attempt.
#[derive(Debug, Clone)]
pub struct Funded {
    /// The run.
    pub run: Uuid,
    /// For the agent, pico-USD.
    pub agent_pico: i64,
    /// For the verifier.
    pub verifier_pico: i64,
}

/// Reserves what each run has left in every purse above it. Runs whose evaluation or tenant cannot pay now, while other
/// attempts hold money that may come back, are put off.
pub async fn reserve(conn: &mut PgConnection, runs: &[Locked]) -> Result<Vec<Funded>, Error> {
    let all: Vec<Uuid> = runs.iter().map(|run| run.run).collect();
    let paying = purses::with_money(conn, &all).await?;
    let owners: Vec<Uuid> = runs
        .iter()
        .filter(|run| paying.contains(&run.run))
        .flat_map(|run| [Some(run.run), run.evaluation, Some(run.tenant)])
        .flatten()
        .collect();
    let mut purses = if owners.is_empty() {
        purses::Locked::default()
    } else {
        purses::lock(conn, &owners).await?
    };
    let (mut funded, mut put_off) = (Vec::new(), Vec::new());
    for run in runs {
        match grant(&mut purses, run) {
            Some(grant) => funded.push(grant),
            None => put_off.push(run.run),
        }
    }
    purses.save(conn).await?;
    if !put_off.is_empty() {
        sqlx::query!(
            "UPDATE run_queue SET not_before = now() + interval '5 s' WHERE run = ANY($1)",
            &put_off
        )
        .execute(conn)
        .await?;
    }
    Ok(funded)
}

fn grant(purses: &mut purses::Locked, run: &Locked) -> Option<Funded> {
    let (agent, verifier) = (
        (purses::RUN, run.run, "agent"),
        (purses::RUN, run.run, "verifier"),
    );
    let left = |name| purses.of(name).map_or(0, |purse| purse.free());
    let (mut for_agent, mut for_verifier) = (left(agent), left(verifier));
    let wanted = for_agent + for_verifier;
    if wanted > 0 {
        let above = [
            run.evaluation
                .map(|evaluation| (purses::EVALUATION, evaluation, "all")),
            Some((purses::TENANT, run.tenant, "all")),
        ];
        for name in above.into_iter().flatten() {
            let purse = purses.of(name)?;
            if purse.free() < for_agent + for_verifier {
                if purse.reserved > 0 {
                    return None;
                }
                // Nothing can come back: the ceiling is what is left, for the agent first.
                for_agent = for_agent.min(purse.free());
                for_verifier = for_verifier.min(purse.free() - for_agent);
            }
        }
        for name in above.into_iter().flatten() {
            purses.add(name, for_agent + for_verifier, 0);
        }
        purses.add(agent, for_agent, 0);
        purses.add(verifier, for_verifier, 0);
    }
    Some(Funded {
        run: run.run,
        agent_pico: i64::try_from(for_agent).unwrap_or(i64::MAX),
        verifier_pico: i64::try_from(for_verifier).unwrap_or(i64::MAX),
    })
}

/// A new attempt.
#[derive(Debug)]
pub struct NewAttempt {
    /// Its id.
    pub id: AttemptId,
    /// Its run and money.
    pub funded: Funded,
    /// The sealed seed.
    pub seed_sealed: Vec<u8>,
}

/// Leases the runs: new attempts, the fence one higher.
pub async fn lease(
    conn: &mut PgConnection,
    worker: &Worker,
    attempts: &[NewAttempt],
    limits: &serde_json::Value,
    lease_ms: u64,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = attempts.iter().map(|new| new.id.0).collect();
    let runs: Vec<Uuid> = attempts.iter().map(|new| new.funded.run).collect();
    let seeds: Vec<Vec<u8>> = attempts.iter().map(|new| new.seed_sealed.clone()).collect();
    let agents: Vec<i64> = attempts.iter().map(|new| new.funded.agent_pico).collect();
    let verifiers: Vec<i64> = attempts.iter().map(|new| new.funded.verifier_pico).collect();
    sqlx::query!(
        "WITH new AS (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bigint[], $5::bigint[])
                      AS given (attempt, run, seed, agent, verifier)),
         leased AS (
             UPDATE run_queue q
             SET state = 'leased', attempt = new.attempt, number = q.number + 1, fence = q.fence + 1, lease_owner = $6,
                 lease_until = now() + $7::float8 * interval '1 ms', handed_off = FALSE
             FROM new WHERE q.run = new.run
             RETURNING q.run, q.number, q.fence),
         moved AS (
             UPDATE runs r
             SET state = 'running', attempts = leased.number, last_attempt = new.attempt, worker = $8,
                 started_at = COALESCE(r.started_at, now())
             FROM leased JOIN new USING (run) WHERE r.id = leased.run
             RETURNING r.id, r.tenant, r.evaluation, r.longest_sec)
         INSERT INTO attempts (id, run, tenant, evaluation, number, fence, worker, worker_name, seed_sealed, budget_pico,
                               verifier_budget_pico, limits, progress, deadline)
         SELECT new.attempt, new.run, moved.tenant, moved.evaluation, leased.number, leased.fence, $6, $8, new.seed,
                new.agent, new.verifier, $9, $10, now() + moved.longest_sec * interval '1 s'
         FROM new JOIN leased USING (run) JOIN moved ON moved.id = new.run",
        &ids,
        &runs,
        &seeds,
        &agents,
        &verifiers,
        worker.id.0,
        millis(lease_ms),
        worker.name,
        limits,
        super::super::to_json("attempts.progress", &Progress::default())?,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Runs looked at beyond those wanted.
const SLACK: i64 = 64;
