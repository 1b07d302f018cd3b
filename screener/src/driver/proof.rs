//! Sees from inside of a sandbox that the engine's own network wall is in a phase: the beacon's open port answers, the closed
//! one fails in every look of a whole second. A label that was changed says only what was asked for.

use std::time::Duration;

use assay_core::phase::EgressPhase;
use assay_engine::Beacon;
use tokio::time::{Instant, sleep};

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
    /// It fails, since a look that began then.
    New(Instant),
}

impl Seen {
    /// How long the next look waits for an answer. The last one goes on until the second is over.
    fn patience(self) -> Duration {
        let left = match self {
            Self::Old => return ONE_DIAL,
            Self::New(first) => SPAN.saturating_sub(first.elapsed()),
        };
        if left < ONE_DIAL * 2 {
            left.max(ONE_DIAL)
        } else {
            ONE_DIAL
        }
    }
}

/// Looks until it is proven, or for too long: then the phase was not switched, by nobody's fault but the platform's.
pub(super) async fn prove(live: &Live, phase: EgressPhase, beacon: &Beacon) -> Result<Proof, Halt> {
    let begun = Instant::now();
    let mut seen = Seen::Old;
    loop {
        let look = Instant::now();
        let found = live.reaches([beacon.open, beacon.closed], seen.patience()).await;
        seen = match (&found, seen) {
            (Ok([true, false]), Seen::New(first)) if first.elapsed() >= SPAN => {
                return Ok(Proof {
                    reaction: first - begun,
                    proven: begun.elapsed(),
                });
            }
            (Ok([true, false]), Seen::New(first)) => Seen::New(first),
            (Ok([true, false]), Seen::Old) => Seen::New(look),
            _ => Seen::Old,
        };
        if begun.elapsed() > PATIENCE {
            return Err(Evidence::NotSwitched(told(phase, beacon, &found)).into());
        }
        if seen == Seen::Old {
            sleep(AGAIN).await;
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
/// How long every look must see the new phase.
const SPAN: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(20);
/// A node with more work than processors takes ten seconds and more to change its rules; an attempt is worth a wait.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_fill_a_second_and_the_last_ends_with_it() {
        assert_eq!(Seen::Old.patience(), ONE_DIAL);
        let first = Instant::now();
        let mut looks = Vec::new();
        while first.elapsed() < SPAN {
            let patience = Seen::New(first).patience();
            looks.push(patience.as_millis());
            // What the way there and back takes.
            tokio::time::advance(patience + Duration::from_millis(5)).await;
        }
        assert_eq!(looks, [300, 300, 390]);
        assert_eq!(first.elapsed(), SPAN + Duration::from_millis(5));
    }
}
