//! Carries what a proxy writes down, its audit, its write-ahead log and its recording, to the API while its sandbox
//! lives, and what it counts into the worker's own metrics.
//!
//! All are files that only grow, so the proxy is the buffer: they are read from the offset that is stored already, and
//! nothing is ever left out. A worker that takes over goes on where the stored stream ends; a sandbox that is lost has
//! told everything but its last moments.

use std::{future::Future, sync::Arc, time::Duration};

use assay_core::{
    id::{AttemptId, Fence},
    wire::{
        channel::{Channel, Record, Sidecar},
        worker::Progress,
    },
};
use assay_runtime::control::ProxyClient;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Chunk, ship::store};
use crate::{
    platform::{Error, OutputPlace, Platform},
    sandboxes::{Before, Meter, Sandboxes},
};

/// Follows one proxy. Dropping it stops that; what is stored stays.
#[derive(Debug)]
pub struct Follower {
    finished: CancellationToken,
    task: AbortOnDropHandle<Result<bool, Error>>,
}

impl Follower {
    /// Starts after what is stored already.
    pub fn start(
        (platform, sandboxes): (&Platform, &Sandboxes),
        proxy: Arc<ProxyClient>,
        (attempt, fence): (AttemptId, Fence),
        (step, sidecar): (u32, Sidecar),
        (records, stored): (&[Record], &Progress),
    ) -> Self {
        let lanes = records.iter().map(|record| {
            let record = *record;
            let channel = Channel::Proxy(sidecar, record);
            let offset = stored.output.get(&channel.key(step)).copied().unwrap_or(0);
            let place = OutputPlace {
                attempt,
                fence,
                step,
                channel,
            };
            Lane {
                record,
                place,
                offset,
            }
        });
        let lanes: Vec<Lane> = lanes.collect();
        let before = if lanes.iter().any(|lane| lane.offset > 0) {
            Before::AnotherWorker
        } else {
            Before::Nobody
        };
        let meter = sandboxes.meter(before);
        let finished = CancellationToken::new();
        let follow = follow(platform.clone(), proxy, lanes, meter, finished.clone());
        Self {
            task: AbortOnDropHandle::new(tokio::spawn(follow)),
            finished,
        }
    }

    /// Lets the proxy end and stores what is left, until `patience` is over. False where the proxy or the API did not answer until the end.
    pub async fn finish(self, patience: impl Future<Output = ()>) -> Result<bool, Error> {
        self.finished.cancel();
        // cancel-safe: a task that is dropped stops; what is stored stays.
        tokio::select! {
            biased;
            joined = self.task => joined.unwrap_or(Ok(false)),
            () = patience => Ok(false),
        }
    }
}

#[derive(Debug)]
struct Lane {
    record: Record,
    place: OutputPlace,
    offset: u64,
}

async fn follow(
    platform: Platform,
    proxy: Arc<ProxyClient>,
    mut lanes: Vec<Lane>,
    mut meter: Meter,
    finished: CancellationToken,
) -> Result<bool, Error> {
    let mut rounds: u64 = 0;
    loop {
        let last = finished.is_cancelled();
        if last && let Err(error) = proxy.close().await {
            tracing::debug!(%error, "the proxy does not end its audit");
        }
        let mut complete = true;
        for lane in &mut lanes {
            complete &= catch_up(&platform, &proxy, lane).await?;
        }
        if last || rounds.is_multiple_of(METERED) {
            read(&proxy, &mut meter).await;
        }
        if last {
            return Ok(complete);
        }
        // cancel-safe: nothing is under way.
        tokio::select! {
            () = finished.cancelled() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
        rounds += 1;
    }
}

/// A reading that fails is made up for by the next one.
async fn read(proxy: &ProxyClient, meter: &mut Meter) {
    match proxy.metrics().await {
        Ok(metrics) => meter.read(metrics),
        Err(error) => tracing::debug!(%error, "the proxy's metrics cannot be read for now"),
    }
}

/// Stores what was written since. False where the proxy did not answer.
async fn catch_up(platform: &Platform, proxy: &ProxyClient, lane: &mut Lane) -> Result<bool, Error> {
    loop {
        let mut bytes = match proxy.record(lane.record, lane.offset).await {
            Ok(bytes) if bytes.is_empty() => return Ok(true),
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, stream = %lane.place.channel, "the proxy cannot be read for now");
                return Ok(false);
            }
        };
        while !bytes.is_empty() {
            let chunk = Chunk {
                offset: lane.offset,
                bytes: bytes.split_to(bytes.len().min(CHUNK_BYTES)),
            };
            store(platform, &lane.place, &chunk).await?;
            lane.offset += chunk.bytes.len() as u64;
        }
    }
}

/// A lost node loses at most so much.
const PERIOD: Duration = Duration::from_millis(800);
/// Rounds between two readings of the metrics.
const METERED: u64 = 6;
/// The API takes no larger ones.
const CHUNK_BYTES: usize = 256 << 10;
