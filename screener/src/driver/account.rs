//! The money of an attempt: differences of a sandbox's account, booked to agent or verifier, and its proofs on disk.

use assay_core::control::proxy::Ledger;
use assay_engine::Engine;

use super::{
    Driver, Halt,
    live::{Live, Proof},
};
use crate::evidence::Evidence;

impl<E: Engine> Driver<E> {
    /// Reads the account at the end of the agent's phase and books what changed.
    pub(super) async fn agent_account(&mut self, live: &Live) -> Result<Evidence, Halt> {
        let after = live.ledger().await?;
        let before = self.account.clone();
        let memo = &mut self.row.memo;
        memo.ledger = sum(&memo.ledger, &difference(&after, &memo.last));
        memo.ledger.budget = self.assignment.budget;
        memo.last = after.clone();
        Ok(Evidence::Account { before, after })
    }

    /// Reads the account after a verifier and books what changed since `before`.
    pub(super) async fn verifier_account(&mut self, live: &Live, before: &Ledger) -> Result<Ledger, Halt> {
        let after = live.ledger().await?;
        let memo = &mut self.row.memo;
        memo.verifier_ledger = sum(&memo.verifier_ledger, &difference(&after, before));
        memo.verifier_ledger.budget = self.assignment.verifier_budget;
        Ok(after)
    }

    /// Copies write-ahead log and audit of a sandbox's proxy to this machine.
    pub(super) async fn keep_proofs(&self, live: &Live, prefix: &str) -> Result<(), Halt> {
        tokio::fs::create_dir_all(&self.folder)
            .await
            .map_err(super::fetch::local(&self.folder))?;
        for (proof, name) in [(Proof::Ledger, "ledger.jsonl"), (Proof::Audit, "audit.jsonl")] {
            live.pull(proof, &self.folder.join(format!("{prefix}{name}")))
                .await?;
        }
        Ok(())
    }
}

/// What happened between two readings of one account.
fn difference(after: &Ledger, before: &Ledger) -> Ledger {
    Ledger {
        budget: after.budget,
        settled: after.settled.saturating_sub(before.settled),
        reserved: after.reserved.saturating_sub(before.reserved),
        unresolved: after.unresolved.saturating_sub(before.unresolved),
        requests: after.requests.saturating_sub(before.requests),
        refused_requests: after.refused_requests.saturating_sub(before.refused_requests),
        denied: after.denied.saturating_sub(before.denied),
        budget_refusals: after.budget_refusals.saturating_sub(before.budget_refusals),
        provider_errors: after.provider_errors.saturating_sub(before.provider_errors),
        input_tokens: after.input_tokens.saturating_sub(before.input_tokens),
        cached_tokens: after.cached_tokens.saturating_sub(before.cached_tokens),
        output_tokens: after.output_tokens.saturating_sub(before.output_tokens),
        log_bytes: after.log_bytes.saturating_sub(before.log_bytes),
        audit_bytes: after.audit_bytes.saturating_sub(before.audit_bytes),
    }
}

/// Two accounts as one.
fn sum(left: &Ledger, right: &Ledger) -> Ledger {
    Ledger {
        budget: left.budget + right.budget,
        settled: left.settled + right.settled,
        reserved: left.reserved + right.reserved,
        unresolved: left.unresolved + right.unresolved,
        requests: left.requests + right.requests,
        refused_requests: left.refused_requests + right.refused_requests,
        denied: left.denied + right.denied,
        budget_refusals: left.budget_refusals + right.budget_refusals,
        provider_errors: left.provider_errors + right.provider_errors,
        input_tokens: left.input_tokens + right.input_tokens,
        cached_tokens: left.cached_tokens + right.cached_tokens,
        output_tokens: left.output_tokens + right.output_tokens,
        log_bytes: left.log_bytes + right.log_bytes,
        audit_bytes: left.audit_bytes + right.audit_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_core::money::PicoUsd;

    #[test]
    fn differences_add_up_to_the_whole() {
        let reading = |pico, requests| Ledger {
            settled: PicoUsd::from_pico(pico),
            requests,
            ..Ledger::default()
        };
        let (first, second) = (reading(5, 1), reading(12, 3));
        let total = sum(
            &difference(&first, &Ledger::default()),
            &difference(&second, &first),
        );
        assert_eq!((total.settled.pico(), total.requests), (12, 3));
    }
}
