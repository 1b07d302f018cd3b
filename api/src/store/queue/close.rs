//! Ends an attempt: its row, its money, its run, the counters, in one transaction.

use assay_core::{
    cause::Cause,
    id::{AttemptId, Fence, RunId},
    money::PicoUsd,
    wire::worker::{Accounts, Report},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{Error, attempts, big, evaluations, purses, runs},
    millis,
};
use crate::outcome::{Ended, Outcome};

/// The leased row and its run, locked.
#[derive(Debug, Clone, Copy)]
pub struct Leased {
    /// The run.
    pub run: Uuid,
    tenant: Uuid,
    evaluation: Option<Uuid>,
    fence: i64,
    cancel: bool,
    attempts: i32,
    proxy_losses: i32,
    no_rooms: i64,
    budget_pico: i64,
    verifier_budget_pico: i64,
}

/// Locks the queue row that holds this attempt under this fence; `None` when the lease is lost.
pub async fn lock(
    conn: &mut PgConnection,
    attempt: AttemptId,
    fence: Fence,
) -> Result<Option<Leased>, Error> {
    Ok(sqlx::query_as!(
        Leased,
        r#"SELECT q.run, q.tenant, q.evaluation, q.fence, q.cancel, r.attempts, r.proxy_losses, a.budget_pico,
                a.verifier_budget_pico,
                (SELECT count(*) FROM attempts n WHERE n.run = q.run AND n.cause = 'no_room') AS "no_rooms!"
         FROM run_queue q JOIN runs r ON r.id = q.run JOIN attempts a ON a.id = q.attempt
         WHERE q.attempt = $1 AND q.fence = $2 AND q.state = 'leased' FOR UPDATE OF q"#,
        attempt.0,
        big(fence.0)
    )
    .fetch_optional(conn)
    .await?)
}

/// How the attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Why.
    pub cause: Cause,
    /// That in a sentence.
    pub detail: &'a str,
    /// The worker's report; absent when the lease was lost.
    pub report: Option<&'a Report>,
    /// What the streamed logs of the proxies say, where there is no report.
    pub streamed: &'a Accounts,
    /// A random number for the back-off.
    pub dice: u32,
}

/// Closes the attempt and moves its run on.
pub async fn close(
    conn: &mut PgConnection,
    attempt: AttemptId,
    row: Leased,
    end: &End<'_>,
) -> Result<Outcome, Error> {
    let ended = Ended {
        cause: end.cause,
        score: end.report.and_then(|report| report.score),
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        proxy_losses: u32::try_from(row.proxy_losses).unwrap_or(u32::MAX),
        no_rooms: u32::try_from(row.no_rooms).unwrap_or(u32::MAX),
        cancelled: row.cancel,
        dice: end.dice,
    };
    let (cause, outcome) = (ended.effective_cause(), ended.outcome());
    let spent = Spent::of(&row, end);
    let closing = attempts::Closing {
        // A lost attempt's holder may come back: its fence must be old by then.
        fence: Fence(super::super::count(row.fence) + u64::from(end.report.is_none())),
        cause,
        detail: end.detail,
        report: end.report,
        cost_pico: spent.total().as_i64(),
    };
    leave_queue(conn, &row, outcome).await?;
    attempts::close(conn, attempt, &closing).await?;
    book_run(conn, &row, end, cause, outcome, spent).await?;
    settle(conn, &row, cause, spent).await?;
    count(conn, &row, outcome, spent).await?;
    Ok(outcome)
}

async fn leave_queue(conn: &mut PgConnection, row: &Leased, outcome: Outcome) -> Result<(), Error> {
    let Outcome::Retry { delay_ms, .. } = outcome else {
        sqlx::query!("DELETE FROM run_queue WHERE run = $1", row.run)
            .execute(conn)
            .await?;
        return Ok(());
    };
    sqlx::query!(
        "UPDATE run_queue
         SET state = 'ready', attempt = NULL, lease_owner = NULL, lease_until = NULL, handed_off = FALSE,
             fence = fence + 1, not_before = now() + $2::float8 * interval '1 ms'
         WHERE run = $1",
        row.run,
        millis(delay_ms),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn book_run(
    conn: &mut PgConnection,
    row: &Leased,
    end: &End<'_>,
    cause: Cause,
    outcome: Outcome,
    spent: Spent,
) -> Result<(), Error> {
    let (state, score, delay_ms) = match outcome {
        Outcome::Finished { score, .. } => ("finished", Some(score), 0),
        Outcome::GaveUp { .. } => ("gave_up", None, 0),
        Outcome::Cancelled => ("cancelled", None, 0),
        Outcome::Retry { delay_ms, .. } => ("queued", None, delay_ms),
    };
    let ledgers = end.report.map(|report| [&report.ledger, &report.verifier_ledger]);
    let ledgers = ledgers.iter().flatten();
    let change = runs::Change {
        state,
        score,
        cause,
        detail: end.detail,
        cost: spent.total(),
        tokens: ledgers
            .clone()
            .map(|ledger| ledger.input_tokens.saturating_add(ledger.output_tokens))
            .fold(0, u64::saturating_add),
        denied: ledgers.map(|ledger| ledger.denied).fold(0, u64::saturating_add),
        delay_ms,
    };
    runs::book(conn, RunId(row.run), &change).await
}

/// What an attempt spent, at most.
#[derive(Debug, Clone, Copy)]
struct Spent {
    agent: PicoUsd,
    verifier: PicoUsd,
}

impl Spent {
    /// Without a report nobody knows: the account is closed at what was granted, or at more where that much is settled.
    fn of(row: &Leased, end: &End<'_>) -> Self {
        match end.report {
            Some(report) => Self {
                agent: report.ledger.cost_max(),
                verifier: report.verifier_ledger.cost_max(),
            },
            None => Self {
                agent: PicoUsd::from_i64(row.budget_pico).max(end.streamed.agent.settled),
                verifier: PicoUsd::from_i64(row.verifier_budget_pico).max(end.streamed.verifier.settled),
            },
        }
    }

    fn total(self) -> PicoUsd {
        self.agent + self.verifier
    }
}

/// Releases the reservation in every purse; books the cost there when the tenant is charged, else on the operator.
async fn settle(conn: &mut PgConnection, row: &Leased, cause: Cause, spent: Spent) -> Result<(), Error> {
    let held = [
        ("agent", row.budget_pico, spent.agent),
        ("verifier", row.verifier_budget_pico, spent.verifier),
    ];
    let owners: Vec<Uuid> = [Some(row.run), row.evaluation, Some(row.tenant)]
        .into_iter()
        .flatten()
        .collect();
    let mut operator = i128::from(spent.total().pico());
    if held.iter().any(|(_, reserved, _)| *reserved > 0) {
        let mut purses = purses::lock(conn, &owners).await?;
        for (purpose, reserved, spent) in held {
            let reserved = i128::from(reserved);
            let charged = if cause.is_charged() {
                i128::from(spent.pico()).min(reserved)
            } else {
                0
            };
            operator -= charged;
            purses.add((purses::RUN, row.run, purpose), -reserved, charged);
            if let Some(evaluation) = row.evaluation {
                purses.add((purses::EVALUATION, evaluation, "all"), -reserved, charged);
            }
            purses.add((purses::TENANT, row.tenant, "all"), -reserved, charged);
        }
        purses.save(conn).await?;
    }
    purses::book_operator(conn, operator).await
}

async fn count(conn: &mut PgConnection, row: &Leased, outcome: Outcome, spent: Spent) -> Result<(), Error> {
    let Some(evaluation) = row.evaluation else {
        return Ok(());
    };
    let mut ended = evaluations::Ended {
        cost_pico: spent.total().as_i64(),
        ..evaluations::Ended::default()
    };
    match outcome {
        Outcome::Finished { score, .. } => (ended.runs, ended.graded, ended.score) = (1, 1, score),
        Outcome::GaveUp { .. } | Outcome::Cancelled => ended.runs = 1,
        Outcome::Retry { .. } => {}
    }
    evaluations::add(conn, evaluation, ended).await
}
