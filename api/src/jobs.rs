//! What every replica does beside answering: closes lost attempts and publishes events. Each pass is safe on all of them at once.

use std::time::Duration;

use assay_core::{cause::Cause, id::Fence};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Shared, dice},
    evidence,
    metrics::Ended,
    refusal::Refusal,
    store::{
        self,
        queue::{
            close::{End, close, lock},
            lease::lock_lost,
        },
    },
};

/// Closes attempts whose lease ran out two lease times ago; they are retried like any fault of ours.
pub async fn close_lost(app: &App) -> Result<usize, Refusal> {
    let mut closed = 0;
    loop {
        let mut tx = store::begin(&app.pool).await?;
        let lost = lock_lost(&mut tx, app.config.lease_ms, BATCH).await?;
        for (attempt, fence) in &lost {
            let Some(row) = lock(&mut tx, *attempt, Fence(*fence)).await? else {
                continue;
            };
            let detail = "no worker held the lease for two lease times";
            // What cannot be read now is not worth keeping the run from its next attempt.
            let streamed = evidence::accounts(app, *attempt).await.unwrap_or_default();
            let end = End {
                cause: Cause::Lost,
                detail,
                report: None,
                streamed: &streamed,
                dice: dice()?,
            };
            close(&mut tx, *attempt, row, &end).await?;
        }
        tx.commit().await?;
        app.wake.stored(lost.iter().map(|(attempt, _)| *attempt));
        closed += lost.len();
        let cause = Cause::Lost.name().to_owned();
        app.metrics
            .ended
            .get_or_create(&Ended { cause })
            .inc_by(lost.len().try_into().unwrap_or(0));
        if i64::try_from(lost.len()).unwrap_or(0) < BATCH {
            return Ok(closed);
        }
    }
}

/// Gives committed events their cursors.
pub async fn publish_events(app: &App) -> Result<u64, Refusal> {
    let mut tx = store::begin(&app.pool).await?;
    let published = store::events::publish(&mut tx, EVENTS_PER_PASS).await?;
    tx.commit().await?;
    let count = published.len().try_into().unwrap_or(0);
    app.wake.stored(published);
    app.metrics.events_published.inc_by(count);
    Ok(count)
}

/// Runs until `stop`.
pub async fn reap(app: Shared, stop: CancellationToken) {
    let pause = Duration::from_millis((app.config.lease_ms / 10).clamp(50, 1000));
    while !paused(pause, &stop).await {
        match close_lost(&app).await {
            Ok(0) => {}
            Ok(closed) => tracing::warn!(closed, "closed attempts that nobody held"),
            Err(refusal) => tracing::warn!(problem = %refusal.0.code, "cannot look for lost attempts"),
        }
    }
}

/// Runs until `stop`: often while there is something, seldom otherwise.
pub async fn publish(app: Shared, stop: CancellationToken) {
    let mut pause = BUSY;
    while !paused(pause, &stop).await {
        pause = match publish_events(&app).await {
            Ok(0) => (pause * 2).min(IDLE),
            Ok(_) => BUSY,
            Err(refusal) => {
                tracing::warn!(problem = %refusal.0.code, "cannot publish events");
                IDLE
            }
        };
    }
}

async fn paused(pause: Duration, stop: &CancellationToken) -> bool {
    // cancel-safe: neither a sleep nor a token loses anything.
    tokio::select! {
        () = tokio::time::sleep(pause) => false,
        () = stop.cancelled() => true,
    }
}

/// Lost attempts closed in one transaction.
const BATCH: i64 = 100;
/// Events published in one transaction.
const EVENTS_PER_PASS: i64 = 5000;
/// Pause of the publisher while there are events.
const BUSY: Duration = Duration::from_millis(50);
/// Longest pause of the publisher.
const IDLE: Duration = Duration::from_millis(200);
