//! The limit on disk where the engine does not hold it at once: somebody looks, and what writes too much is killed.

use std::time::{Duration, Instant};

use assay_engine::{DiskUse, Engine};

use super::{Driver, Halt, live::Live};
use crate::evidence::Evidence;

/// Ends when the sandbox has written more than it may; tells how much, and how much that was.
///
/// What lies there already when the watch begins may stay, with a little on top: a verifier is not to fall by what
/// its agent has left. Never ends where the engine holds the limit itself or cannot tell.
pub(super) async fn overflow(engine: &impl Engine, live: &Live, limit: u64) -> (u64, u64) {
    let mut most = None;
    loop {
        let began = Instant::now();
        match engine.disk_used(&live.name()).await {
            Ok(DiskUse::Bytes(used)) => {
                let most = *most.get_or_insert(limit.max(used.saturating_add(SPARE)));
                if used > most {
                    return (used, most);
                }
            }
            Ok(DiskUse::Held) => return std::future::pending().await,
            Ok(DiskUse::HeldLate) => return overflow_told(live, limit.saturating_add(SPARE)).await,
            Err(error) => tracing::debug!(%error, "nobody knows what is written"),
        }
        tokio::time::sleep(pause(began.elapsed())).await;
    }
}

/// As the sandbox's runner tells it. Its walk is paid by the sandbox: what is over soon is not looked at.
async fn overflow_told(live: &Live, most: u64) -> (u64, u64) {
    let mut between = SHORTEST_TOLD;
    loop {
        tokio::time::sleep(between).await;
        let began = Instant::now();
        match live.written().await {
            Ok(written) if written.bytes > most => return (written.bytes, most),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "nobody knows what is written"),
        }
        between = (began.elapsed() * 30).clamp(SHORTEST_TOLD, LONGEST_TOLD);
    }
}

impl<E: Engine> Driver<E> {
    /// What an agent leaves in the sandbox that its verifier shares, where the engine looks late: it would take the
    /// sandbox away while the verifier runs, and nobody could tell who wrote too much.
    pub(super) async fn check_disk(&mut self, live: &Live) -> Result<(), Halt> {
        self.row.memo.disk_clear = false;
        if !matches!(
            self.site.engine.disk_used(&live.name()).await,
            Ok(DiskUse::HeldLate)
        ) {
            return Ok(());
        }
        let limit = self.plan()?.limits.storage_mb << 20;
        match live.written().await {
            Ok(written) if written.bytes > limit => {
                let (used, limit) = (written.bytes >> 20, limit >> 20);
                Err(Evidence::Overfull(format!("it left {used} MiB where it may write {limit}")).into())
            }
            Ok(written) => {
                self.row.memo.disk_clear = written.complete;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "nobody knows what the agent has written");
                Ok(())
            }
        }
    }
}

/// Between two looks. Each costs the engine a walk over what the sandbox has written: where that takes long, it is
/// done less often.
fn pause(took: Duration) -> Duration {
    (took * 10).clamp(SHORTEST, LONGEST)
}

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
const SHORTEST_TOLD: Duration = Duration::from_secs(2);
const LONGEST_TOLD: Duration = Duration::from_mins(1);
/// What may be written beside a full disk: logs and a reward.
const SPARE: u64 = 64 << 20;
