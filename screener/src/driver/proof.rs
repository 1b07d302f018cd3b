//! Sees from inside of a sandbox that the engine's own network wall is in a phase: the beacon's open port answers, the closed
//! one fails twice, a second apart. A label that was changed says only what was asked for.

use std::time::Duration;

use assay_core::phase::EgressPhase;
use assay_engine::Beacon;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Halt, live::Live};
use crate::evidence::Evidence;

/// How long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// Until the look that first saw the new phase began: the wall's own reaction.
    pub(super) reaction: Duration,
    /// Until it was proven.
    pub(super) proven: Duration,
}

/// What was seen so far of the closed port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It answers, or the open one does not.
    Old,
    /// It failed once, in a look that began then.
    Once(Instant),
}

/// Looks until it is proven, or for too long: then the phase was not switched, by nobody's fault but the platform's.
pub(super) async fn prove(live: &Live, phase: EgressPhase, beacon: &Beacon) -> Result<Proof, Halt> {
    let begun = Instant::now();
    let mut seen = Seen::Old;
    loop {
        let look = Instant::now();
        let found = live.reaches([beacon.open, beacon.closed], ONE_DIAL).await;
        seen = match (&found, seen) {
            (Ok([true, false]), Seen::Once(first)) => {
                return Ok(Proof {
                    reaction: first - begun,
                    proven: begun.elapsed(),
                });
            }
            (Ok([true, false]), Seen::Old) => Seen::Once(look),
            _ => Seen::Old,
        };
        if begun.elapsed() > PATIENCE {
            return Err(Evidence::NotSwitched(told(phase, beacon, &found)).into());
        }
        match seen {
            Seen::Old => sleep(AGAIN).await,
            Seen::Once(first) => sleep_until(first + APART).await,
        }
    }
}

fn told(phase: EgressPhase, beacon: &Beacon, found: &Result<[bool; 2], String>) -> String {
    let seconds = PATIENCE.as_secs();
    let Beacon { open, closed } = beacon;
    match found {
        Err(error) => format!("the proxy does not show the network of phase {phase}: {error}"),
        Ok([false, _]) => format!(
            "the network policies of phase {phase} are not in force after {seconds} s: the beacon does not answer at {open}"
        ),
        Ok([true, _]) => format!(
            "the network policies of phase {phase} are not in force after {seconds} s: the beacon still answers at {closed}"
        ),
    }
}

/// A policy drops in silence; who answers is near. On a busy node less gives false denials.
const ONE_DIAL: Duration = Duration::from_millis(300);
/// Between the beginnings of the two looks that prove it.
const APART: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(20);
/// A node with more work than processors takes ten seconds and more to change its rules; an attempt is worth a wait.
const PATIENCE: Duration = Duration::from_secs(30);
