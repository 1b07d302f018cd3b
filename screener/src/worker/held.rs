//! The leases that this worker holds, and how their drivers are told things.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use assay_core::{
    id::{AttemptId, Fence},
    wire::worker::Lease,
};

use crate::driver::Signals;

/// Leases by attempt. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<BTreeMap<AttemptId, (Fence, Signals)>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, (Fence, Signals)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease. One of an older fence for the same attempt is lost by that.
    pub(super) fn add(&self, attempt: AttemptId, fence: Fence, signals: Signals) {
        if let Some((_, old)) = self.lock().insert(attempt, (fence, signals)) {
            old.lost.cancel();
        }
    }

    /// Forgets a lease, if it is still the same.
    pub(super) fn remove(&self, attempt: AttemptId, fence: Fence) {
        let mut leases = self.lock();
        if leases.get(&attempt).is_some_and(|(held, _)| *held == fence) {
            leases.remove(&attempt);
        }
    }

    /// Every lease.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let lease = |(attempt, (fence, _)): (&AttemptId, &(Fence, Signals))| Lease {
            attempt: *attempt,
            fence: *fence,
        };
        self.lock().iter().map(lease).collect()
    }

    /// Is the attempt driven here?
    pub(super) fn has(&self, attempt: AttemptId) -> bool {
        self.lock().contains_key(&attempt)
    }

    /// The lease is lost, as of the leases that were asked about.
    pub(super) fn lose(&self, attempt: AttemptId, asked: &[Lease]) {
        if let Some((fence, signals)) = self.lock().get(&attempt)
            && asked.contains(&Lease {
                attempt,
                fence: *fence,
            })
        {
            signals.lost.cancel();
        }
    }

    /// Somebody cancelled the run.
    pub(super) fn cancel(&self, attempt: AttemptId) {
        if let Some((_, signals)) = self.lock().get(&attempt) {
            signals.cancel.cancel();
        }
    }

    /// Every lease goes back.
    pub(super) fn hand_off(&self) {
        for (_, signals) in self.lock().values() {
            signals.handoff.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_lease_taken_again_loses_the_old_one_only() {
        let (held, attempt) = (Held::default(), AttemptId(Uuid::from_u128(1)));
        let (old, new) = (Signals::default(), Signals::default());
        held.add(attempt, Fence(1), old.clone());
        let asked = held.leases();
        held.add(attempt, Fence(2), new.clone());
        assert!(old.lost.is_cancelled());
        // The answer to a beat from before the adoption says nothing about the new lease.
        held.lose(attempt, &asked);
        assert!(!new.lost.is_cancelled());
        held.remove(attempt, Fence(1));
        assert!(held.has(attempt));
        held.lose(attempt, &held.leases());
        assert!(new.lost.is_cancelled());
    }
}
