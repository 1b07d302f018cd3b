//! Sandboxes that nobody drives: found by their labels, removed only when the API says so.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use assay_core::{id::WorkerId, wire::worker::Orphans};
use assay_engine::Engine;

use super::held::Held;
use crate::driver::Site;

/// Looks again and again, until it is dropped.
pub(super) async fn reconcile<E: Engine>(site: Arc<Site<E>>, worker: WorkerId, held: Held, every: Duration) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        if let Err(message) = once(&site, worker, &held).await {
            tracing::warn!("cannot reconcile: {message}");
        }
    }
}

async fn once<E: Engine>(site: &Site<E>, worker: WorkerId, held: &Held) -> Result<(), String> {
    let listed = site.engine.list().await.map_err(|error| error.to_string())?;
    let strange: Vec<_> = listed.into_iter().filter(|one| !held.has(one.attempt)).collect();
    if strange.is_empty() {
        return Ok(());
    }
    let attempts: BTreeSet<_> = strange.iter().map(|one| one.attempt).collect();
    let body = Orphans {
        attempts: attempts.into_iter().collect(),
    };
    let verdicts = site
        .platform
        .orphans(worker, &body)
        .await
        .map_err(|error| error.to_string())?;
    for one in strange {
        // Claimed meanwhile: it has a driver now.
        if !verdicts.delete.contains(&one.attempt) || held.has(one.attempt) {
            continue;
        }
        tracing::info!(attempt.id = %one.attempt, "removing a sandbox that nobody needs");
        // One that cannot be removed is no reason to keep the others.
        if let Err(error) = site.engine.destroy(&one.name).await {
            tracing::warn!(attempt.id = %one.attempt, %error, "a sandbox that nobody needs stays for now");
        }
    }
    Ok(())
}

const FIRST: Duration = Duration::from_secs(3);
