//! One heartbeat for all leases; its answer carries what was lost and what was cancelled.

use std::time::Duration;

use assay_core::wire::worker::{Beat, Registered};
use tokio_util::sync::CancellationToken;

use super::held::Held;
use crate::platform::Platform;

/// Beats until it is dropped. A beat that does not arrive is followed by the next one; leases outlast a few.
pub(super) async fn beats(
    platform: Platform,
    registered: Registered,
    held: Held,
    draining: CancellationToken,
) {
    let pause = Duration::from_millis(registered.beat_ms.max(100));
    loop {
        let leases = held.leases();
        let body = Beat {
            leases: leases.clone(),
            claiming: !draining.is_cancelled(),
        };
        match tokio::time::timeout(pause * 3, platform.beat(registered.worker, &body)).await {
            Ok(Ok(answer)) => {
                for attempt in answer.lost {
                    held.lose(attempt, &leases);
                }
                for attempt in answer.cancel {
                    held.cancel(attempt);
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the heartbeat failed"),
            Err(_) => tracing::warn!("the heartbeat was not answered"),
        }
        tokio::time::sleep(pause).await;
    }
}
