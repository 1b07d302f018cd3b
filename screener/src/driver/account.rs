//! The money of an attempt: differences of a sandbox's account, booked to agent or verifier, and what proves them.

use std::time::Duration;

use assay_core::{
    control::proxy::Ledger,
    policy::Recorded,
    wire::{
        channel::{Record, Sidecar},
        worker::Accounts,
    },
};
use assay_engine::Engine;

use super::{CANCEL_PATIENCE, Driver, Halt, live::Live};
use crate::{derive::Place, evidence::Evidence, output::follow::Follower, platform};

impl<E: Engine> Driver<E> {
    /// Reads the account at the end of the agent's phase and books what changed.
    pub(super) async fn agent_account(&mut self, live: &Live) -> Result<Evidence, Halt> {
        let after = live.ledger().await?;
        let before = self.account.clone();
        let memo = &mut self.row.memo;
        memo.ledger.add(&after.since(&memo.last));
        memo.ledger.budget = self.assignment.budget;
        memo.last = after.clone();
        Ok(Evidence::Account { before, after })
    }

    /// Reads the account at the end of a setup. Nothing can be spent in one; what was refused is booked with the agent's.
    pub(super) async fn setup_account(&self, live: &Live) -> Result<Evidence, Halt> {
        let after = live.ledger().await?;
        let before = self.row.memo.last.clone();
        Ok(Evidence::Account { before, after })
    }

    /// Reads the account after a verifier and books what changed since `before`.
    pub(super) async fn verifier_account(&mut self, live: &Live, before: Ledger) -> Result<Evidence, Halt> {
        let after = live.ledger().await?;
        let memo = &mut self.row.memo;
        memo.verifier_ledger.add(&after.since(&before));
        memo.verifier_ledger.budget = self.assignment.verifier_budget;
        Ok(Evidence::Account { before, after })
    }

    /// Begins to carry away what the proxy of a sandbox writes down.
    pub(super) fn follow_proxy(&self, live: &Live, place: Place) -> Follower {
        let stream = match place {
            Place::Main | Place::Build => (0, Sidecar::Main),
            Place::Verifier(step) => (step, Sidecar::Verifier),
        };
        let records = match self.assignment.policy.record {
            Recorded::Nothing => &[Record::Audit, Record::Ledger][..],
            Recorded::Models => &Record::ALL,
        };
        Follower::start(
            (&self.site.platform, &self.site.sandboxes),
            live.proxy(),
            (self.assignment.attempt, self.assignment.fence),
            stream,
            (records, self.journal.stored()),
        )
    }

    /// Stores what a proxy wrote down last; an event says where that did not work. Cancelling shortens the patience.
    pub(super) async fn finish_records(&mut self, records: Follower, patience: Duration) -> Result<(), Halt> {
        let cancel = self.signals.cancel.clone();
        let patience = async move {
            // cancel-safe: nothing but time passes.
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                () = cancel.cancelled() => tokio::time::sleep(CANCEL_PATIENCE).await,
            }
        };
        if !records.finish(patience).await? {
            let now = self.now();
            self.journal
                .note(&self.row, now, "proxy_records_cut", serde_json::Value::Null);
        }
        Ok(())
    }

    /// Closes the accounts of sandboxes that cannot be asked any more at all that was granted: what their streamed logs
    /// do not show as settled may have been spent. Nothing was, where no verifier had begun.
    pub(super) async fn close_accounts(&mut self) -> Result<(), Halt> {
        let (attempt, fence) = (self.assignment.attempt, self.assignment.fence);
        let told = match self.site.platform.accounts(attempt, fence).await {
            Err(platform::Error::Lost) => return Err(Halt::Lost),
            Err(error) => {
                tracing::warn!(%error, "the streamed logs cannot be asked");
                Accounts::default()
            }
            Ok(told) => told,
        };
        let memo = &mut self.row.memo;
        memo.ledger = later(&told.agent, &memo.ledger);
        memo.ledger.exhaust(self.assignment.budget);
        memo.verifier_ledger = later(&told.verifier, &memo.verifier_ledger);
        if memo.mode.is_some() {
            memo.verifier_ledger.exhaust(self.assignment.verifier_budget);
        }
        Ok(())
    }
}

/// Of two views of one account the one that knows more. Refusals are not in the log.
fn later(streamed: &Ledger, read: &Ledger) -> Ledger {
    if streamed.settled < read.settled {
        return read.clone();
    }
    Ledger {
        refused_requests: read.refused_requests,
        denied: read.denied,
        budget_refusals: read.budget_refusals,
        unrecorded: read.unrecorded,
        ..streamed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_core::money::PicoUsd;

    #[test]
    fn a_lost_sandbox_has_spent_its_grant_or_what_is_settled_beyond_it() {
        let settled = |pico| Ledger {
            settled: PicoUsd::from_pico(pico),
            ..Ledger::default()
        };
        let read = Ledger {
            denied: 4,
            ..settled(5)
        };
        let mut closed = later(&settled(8), &read);
        closed.exhaust(PicoUsd::from_pico(10));
        assert_eq!(
            (closed.settled.pico(), closed.cost_max().pico(), closed.denied),
            (8, 10, 4)
        );
        let mut closed = later(&settled(3), &read);
        assert_eq!(closed.settled.pico(), 5);
        closed = later(&settled(12), &read);
        closed.exhaust(PicoUsd::from_pico(10));
        assert_eq!(closed.cost_max().pico(), 12);
    }
}
