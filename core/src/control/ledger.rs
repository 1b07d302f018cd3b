//! What an account adds up to, as the control plane reads it.

use serde::{Deserialize, Serialize};

use crate::money::PicoUsd;

/// The account of one sandbox, over all purses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ledger {
    /// Granted.
    pub budget: PicoUsd,
    /// Spent for certain.
    pub settled: PicoUsd,
    /// Held by requests under way.
    pub reserved: PicoUsd,
    /// Perhaps spent: cut off before the bill was known.
    pub unresolved: PicoUsd,
    /// Model requests forwarded; one that is tried again counts once.
    pub requests: u64,
    /// Model requests refused.
    pub refused_requests: u64,
    /// Connections, names and requests refused, all kinds.
    pub denied: u64,
    /// Requests refused because the budget was spent.
    pub budget_refusals: u64,
    /// Connections, requests and tries refused because write-ahead log or audit could not take them.
    #[serde(default)]
    pub unrecorded: u64,
    /// Requests that a model service answered well.
    #[serde(default)]
    pub answers: u64,
    /// Tries that went wrong by a model service's own fault (429, 5xx, no connection, a broken answer).
    pub provider_errors: u64,
    /// Requests that got no good answer by a model service's own fault, after all tries.
    #[serde(default)]
    pub provider_failures: u64,
    /// Of these, the last ones since the last good answer.
    #[serde(default)]
    pub failures_in_a_row: u64,
    /// A model service did not keep to what was reserved for; nothing more is admitted.
    #[serde(default)]
    pub frozen: bool,
    /// Unresolved requests whose bill is still being asked for.
    #[serde(default)]
    pub reconciling: u64,
    /// Tokens in.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Bytes in the write-ahead log.
    pub log_bytes: u64,
    /// Bytes in the audit.
    pub audit_bytes: u64,
}

impl Ledger {
    /// The least that was spent.
    pub fn cost_min(&self) -> PicoUsd {
        self.settled
    }

    /// Was the model service out of order, so that whatever the agent did says nothing about the agent?
    ///
    /// True when it answered nothing at all although asked, when it failed and never recovered, when it failed as
    /// often as it answered, and when it did not keep to what was reserved for. Each failure is one that remained after
    /// the proxy's own tries.
    pub fn was_provider_down(&self) -> bool {
        let (failures, answers) = (self.provider_failures, self.answers);
        self.frozen
            || (failures > 0 && answers == 0)
            || self.failures_in_a_row >= STILL_DOWN
            || (failures >= OFTEN && failures >= answers)
    }

    /// The most that can have been spent.
    pub fn cost_max(&self) -> PicoUsd {
        self.settled + self.reserved + self.unresolved
    }

    /// What happened between two readings of one account.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let failures = self.provider_failures.saturating_sub(before.provider_failures);
        Self {
            budget: self.budget,
            settled: self.settled.saturating_sub(before.settled),
            reserved: self.reserved.saturating_sub(before.reserved),
            unresolved: self.unresolved.saturating_sub(before.unresolved),
            requests: self.requests.saturating_sub(before.requests),
            refused_requests: self.refused_requests.saturating_sub(before.refused_requests),
            denied: self.denied.saturating_sub(before.denied),
            budget_refusals: self.budget_refusals.saturating_sub(before.budget_refusals),
            unrecorded: self.unrecorded.saturating_sub(before.unrecorded),
            answers: self.answers.saturating_sub(before.answers),
            provider_errors: self.provider_errors.saturating_sub(before.provider_errors),
            provider_failures: failures,
            failures_in_a_row: self.failures_in_a_row.min(failures),
            frozen: self.frozen && !before.frozen,
            reconciling: self.reconciling,
            input_tokens: self.input_tokens.saturating_sub(before.input_tokens),
            cached_tokens: self.cached_tokens.saturating_sub(before.cached_tokens),
            output_tokens: self.output_tokens.saturating_sub(before.output_tokens),
            log_bytes: self.log_bytes.saturating_sub(before.log_bytes),
            audit_bytes: self.audit_bytes.saturating_sub(before.audit_bytes),
        }
    }

    /// Adds what came later to this account.
    pub fn add(&mut self, later: &Self) {
        *self = self.and_then(later);
    }

    /// Closes the account of a sandbox that is read for the last time: what is under way now may be spent.
    pub fn close(&mut self) {
        self.unresolved += self.reserved;
        self.reserved = PicoUsd::ZERO;
    }

    /// Closes the account of a sandbox that cannot be asked any more: what is not settled of the grant may be spent.
    pub fn exhaust(&mut self, granted: PicoUsd) {
        self.budget = granted;
        self.reserved = PicoUsd::ZERO;
        self.unresolved = granted.saturating_sub(self.settled);
    }

    fn and_then(&self, later: &Self) -> Self {
        let row = if later.answers == 0 {
            self.failures_in_a_row
        } else {
            0
        };
        Self {
            budget: self.budget + later.budget,
            settled: self.settled + later.settled,
            reserved: self.reserved + later.reserved,
            unresolved: self.unresolved + later.unresolved,
            requests: self.requests.saturating_add(later.requests),
            refused_requests: self.refused_requests.saturating_add(later.refused_requests),
            denied: self.denied.saturating_add(later.denied),
            budget_refusals: self.budget_refusals.saturating_add(later.budget_refusals),
            unrecorded: self.unrecorded.saturating_add(later.unrecorded),
            answers: self.answers.saturating_add(later.answers),
            provider_errors: self.provider_errors.saturating_add(later.provider_errors),
            provider_failures: self.provider_failures.saturating_add(later.provider_failures),
            failures_in_a_row: row.saturating_add(later.failures_in_a_row),
            frozen: self.frozen || later.frozen,
            reconciling: later.reconciling,
            input_tokens: self.input_tokens.saturating_add(later.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(later.cached_tokens),
            output_tokens: self.output_tokens.saturating_add(later.output_tokens),
            log_bytes: self.log_bytes.saturating_add(later.log_bytes),
            audit_bytes: self.audit_bytes.saturating_add(later.audit_bytes),
        }
    }
}

/// Failures in a row, at the end, that a service counts as down for.
const STILL_DOWN: u64 = 3;
/// Failures below this may be chance.
const OFTEN: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_add_up_to_the_whole() {
        let reading = |pico, requests| Ledger {
            settled: PicoUsd::from_pico(pico),
            requests,
            ..Ledger::default()
        };
        let (first, second) = (reading(5, 1), reading(12, 3));
        let mut total = first.since(&Ledger::default());
        total.add(&second.since(&first));
        assert_eq!((total.settled.pico(), total.requests), (12, 3));
    }

    #[test]
    fn failures_in_a_row_go_on_over_readings_until_an_answer() {
        let reading = |answers, failures, row| Ledger {
            answers,
            provider_failures: failures,
            failures_in_a_row: row,
            ..Ledger::default()
        };
        let readings = [reading(5, 2, 2), reading(5, 3, 3), reading(6, 4, 1)];
        let first = readings[0].since(&Ledger::default());
        let mut sum = first;
        sum.add(&readings[1].since(&readings[0]));
        assert_eq!(sum.failures_in_a_row, 3);
        sum.add(&readings[2].since(&readings[1]));
        assert_eq!((sum.failures_in_a_row, sum.provider_failures), (1, 4));
    }

    #[test]
    fn a_service_is_down_when_it_never_answers_never_recovers_or_fails_as_often_as_not() {
        let down = |answers, provider_failures, failures_in_a_row| {
            let ledger = Ledger {
                answers,
                provider_failures,
                failures_in_a_row,
                ..Ledger::default()
            };
            ledger.was_provider_down()
        };
        assert!(down(0, 1, 1) && down(100, 3, 3) && down(5, 5, 0));
        assert!(!down(0, 0, 0) && !down(100, 2, 2) && !down(6, 5, 1) && !down(1, 1, 0));
    }
}
