//! Cancelling: an intent. Queued runs end at once; leased ones when their worker reports or is lost.

use assay_core::id::{EvaluationId, RunId, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::super::{Error, evaluations, runs};

/// Cancels the runs of an evaluation, or one run. Returns how many ended at once.
pub async fn cancel(
    conn: &mut PgConnection,
    tenant: TenantId,
    evaluation: Option<EvaluationId>,
    run: Option<RunId>,
) -> Result<usize, Error> {
    let rows = sqlx::query!(
        "SELECT run, evaluation, state FROM run_queue
         WHERE tenant = $1 AND (evaluation = $2 OR run = $3) ORDER BY run FOR UPDATE",
        tenant.0,
        evaluation.map(|id| id.0),
        run.map(|id| id.0),
    )
    .fetch_all(&mut *conn)
    .await?;
    let (leased, waiting): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.state == "leased");
    let leased: Vec<Uuid> = leased.iter().map(|row| row.run).collect();
    let ended: Vec<Uuid> = waiting.iter().map(|row| row.run).collect();
    sqlx::query!("UPDATE run_queue SET cancel = TRUE WHERE run = ANY($1)", &leased)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("DELETE FROM run_queue WHERE run = ANY($1)", &ended)
        .execute(&mut *conn)
        .await?;
    if !ended.is_empty() {
        runs::end_cancelled(conn, &ended).await?;
        if let Some(evaluation) = waiting.first().and_then(|row| row.evaluation) {
            let counts = evaluations::Ended {
                runs: i32::try_from(ended.len()).unwrap_or(i32::MAX),
                ..evaluations::Ended::default()
            };
            evaluations::add(conn, evaluation, counts).await?;
        }
    }
    Ok(ended.len())
}
