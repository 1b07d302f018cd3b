//! `POST /v1/attempts/{id}/report`: closes the attempt.

use assay_core::{
    cause::Cause,
    id::{AttemptId, RunId},
    wire::worker::{Accounts, Report},
};
use axum::extract::State;
use http::StatusCode;

use crate::{
    app::{Shared, dice},
    code::Code,
    extract::{Id, Json, WorkerKey},
    metrics::Ended,
    observe,
    refusal::Refusal,
    store::{
        self,
        queue::close::{End, close, lock},
    },
};

/// Closes an attempt. A repeated report of the same fence answers 204 again; an older fence 409 `stale_fence`.
#[utoipa::path(
    post,
    path = "/v1/attempts/{id}/report",
    tag = "workers",
    operation_id = "report",
    params(("id" = AttemptId, Path, description = "The attempt.")),
    request_body = Report,
    responses((status = 204, description = "Done.")),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::StaleFence, Code::ScoreMissing, Code::CauseNotReportable])))
)]
pub async fn report(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(id): Id<AttemptId>,
    Json(report): Json<Report>,
) -> Result<StatusCode, Refusal> {
    observe::about_attempt(id, report.fence);
    check(&report)?;
    let mut tx = store::begin(&app.pool).await?;
    let Some(row) = lock(&mut tx, id, report.fence).await? else {
        drop(tx);
        // The answer of the first report may have been lost on its way.
        let repeated = store::attempts::was_closed_by(&app.pool, id, report.fence).await?;
        return if repeated {
            Ok(StatusCode::NO_CONTENT)
        } else {
            Err(Refusal::stale_fence())
        };
    };
    observe::about_run(RunId(row.run));
    let end = End {
        cause: report.cause,
        detail: &report.detail,
        report: Some(&report),
        streamed: &Accounts::default(),
        dice: dice()?,
    };
    let outcome = close(&mut tx, id, row, &end).await?;
    tx.commit().await?;
    app.wake.stored([id]);
    let cause = report.cause.name();
    tracing::info!(cause, outcome = ?outcome, "an attempt ended");
    app.metrics
        .ended
        .get_or_create(&Ended {
            cause: cause.to_owned(),
        })
        .inc();
    Ok(StatusCode::NO_CONTENT)
}

fn check(report: &Report) -> Result<(), Refusal> {
    if report.cause == Cause::Completed && report.score.is_none() {
        let detail = "an attempt that completed has a score";
        return Err(Refusal::new(Code::ScoreMissing, detail));
    }
    if report.cause == Cause::Lost {
        let detail = "lost is said by the server, when nobody holds the lease";
        return Err(Refusal::new(Code::CauseNotReportable, detail));
    }
    if report.detail.len() > MAX_DETAIL_BYTES {
        return Err(Refusal::invalid("detail: want at most 4 KiB"));
    }
    Ok(())
}

/// A sentence, not a log.
const MAX_DETAIL_BYTES: usize = 4096;
