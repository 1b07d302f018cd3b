//! The limit on disk where the storage driver cannot hold it: somebody looks, and what writes too much is killed.

use std::time::{Duration, Instant};

use assay_engine::{Engine, SandboxRef};

/// Ends when the sandbox has written more than it may; tells how much, and how much that was.
///
/// What lies there already when the watch begins may stay, with a little on top: a verifier is not to fall by what
/// its agent has left. Never ends where the engine holds the limit itself or cannot tell.
pub(super) async fn overflow(engine: &impl Engine, sandbox: SandboxRef, limit: u64) -> (u64, u64) {
    let mut most = None;
    loop {
        let began = Instant::now();
        match engine.disk_used(&sandbox).await {
            Ok(Some(used)) => {
                let most = *most.get_or_insert(limit.max(used.saturating_add(SPARE)));
                if used > most {
                    return (used, most);
                }
            }
            Ok(None) => return std::future::pending().await,
            Err(error) => tracing::debug!(%error, "nobody knows what is written"),
        }
        tokio::time::sleep(pause(began.elapsed())).await;
    }
}

/// Between two looks. Each costs the engine a walk over what the sandbox has written: where that takes long, it is
/// done less often.
fn pause(took: Duration) -> Duration {
    (took * 10).clamp(SHORTEST, LONGEST)
}

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// What may be written beside a full disk: logs and a reward.
const SPARE: u64 = 64 << 20;
