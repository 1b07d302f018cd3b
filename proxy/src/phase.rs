//! The egress phase in force, and the flows that live under it.
//!
//! A flow belongs to the generation under which it was accepted and ends with it: a switch cuts everything older.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use assay_core::{
    control::proxy::{Switch, Switched},
    phase::EgressPhase,
};
use tokio_util::sync::CancellationToken;

/// What decides which hosts can be reached: the phase, and the step that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// From 0.
    pub step: u32,
    /// The phase.
    pub phase: EgressPhase,
}

impl From<EgressPhase> for Stage {
    /// The phase in the first step.
    fn from(phase: EgressPhase) -> Self {
        Self { step: 0, phase }
    }
}

/// One stretch of time under one phase.
#[derive(Debug)]
pub struct Generation {
    /// Grows with each switch.
    pub number: u64,
    /// What decides which hosts can be reached.
    pub stage: Stage,
    over: CancellationToken,
    live: AtomicU64,
}

impl Generation {
    fn new(number: u64, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            number,
            stage,
            over: CancellationToken::new(),
            live: AtomicU64::new(0),
        })
    }
}

/// The current generation.
#[derive(Debug)]
pub struct Phases {
    current: Mutex<Arc<Generation>>,
    closed: AtomicBool,
}

/// The switch names a generation that is not higher than the one in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("generation {asked} is not above {current}, which is in force")]
pub struct Stale {
    /// What was asked for.
    pub asked: u64,
    /// What is in force.
    pub current: u64,
}

impl Phases {
    /// Starts with generation 0.
    pub fn new(phase: EgressPhase) -> Self {
        Self {
            current: Mutex::new(Generation::new(0, phase.into())),
            closed: AtomicBool::new(false),
        }
    }

    /// The generation in force.
    pub fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new flow under the generation in force.
    pub fn flow(&self) -> Flow {
        let generation = self.current();
        generation.live.fetch_add(1, Ordering::Relaxed);
        Flow(generation)
    }

    /// Switches, and cuts every flow of the generation before.
    pub fn switch(&self, switch: Switch) -> Result<Switched, Stale> {
        let old = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if switch.generation <= current.number {
                return Err(Stale {
                    asked: switch.generation,
                    current: current.number,
                });
            }
            let Switch {
                generation,
                phase,
                step,
            } = switch;
            let new = Generation::new(generation, Stage { step, phase });
            if self.is_closed() {
                new.over.cancel();
            }
            std::mem::replace(&mut *current, new)
        };
        old.over.cancel();
        Ok(Switched {
            generation: switch.generation,
            cut: old.live.load(Ordering::Relaxed),
        })
    }

    /// Cuts every flow, for good: at the end.
    pub fn close(&self) {
        // Under the lock: a switch at the same moment sees it, or is seen.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        current.over.cancel();
    }

    /// Was it closed?
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Flows of the generation in force.
    pub fn live(&self) -> u64 {
        self.current().live.load(Ordering::Relaxed)
    }
}

/// One connection of the workload. Counted until dropped.
#[derive(Debug)]
pub struct Flow(Arc<Generation>);

impl Flow {
    /// The phase under which it was accepted.
    pub fn phase(&self) -> EgressPhase {
        self.0.stage.phase
    }

    /// That and its step; its policy for life.
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// Ends when the flow must be cut.
    pub async fn cut(&self) {
        self.0.over.cancelled().await;
    }

    /// True once it must be cut.
    pub fn is_cut(&self) -> bool {
        self.0.over.is_cancelled()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(generation: u64, phase: EgressPhase) -> Switch {
        Switch {
            generation,
            phase,
            step: 0,
        }
    }

    #[test]
    fn a_switch_cuts_older_flows_and_counts_them() {
        let phases = Phases::new(EgressPhase::Setup);
        let (kept, ended) = (phases.flow(), phases.flow());
        drop(ended);
        assert_eq!(
            phases.switch(to(5, EgressPhase::Agent)),
            Ok(Switched {
                generation: 5,
                cut: 1
            })
        );
        assert!(kept.is_cut());
        let new = phases.flow();
        assert_eq!((new.phase(), new.is_cut()), (EgressPhase::Agent, false));
    }

    #[test]
    fn a_generation_that_is_not_higher_is_refused() {
        let phases = Phases::new(EgressPhase::Agent);
        phases.switch(to(2, EgressPhase::Verify)).unwrap();
        for asked in [0, 1, 2] {
            assert_eq!(
                phases.switch(to(asked, EgressPhase::Agent)),
                Err(Stale { asked, current: 2 })
            );
        }
        assert_eq!(phases.current().stage.phase, EgressPhase::Verify);
    }

    #[test]
    fn after_the_end_no_switch_opens_anything_again() {
        let phases = Phases::new(EgressPhase::Agent);
        phases.close();
        phases.switch(to(2, EgressPhase::Verify)).unwrap();
        assert!(phases.is_closed() && phases.flow().is_cut());
    }
}
