//! What one phase has spent, and what it may still hold.

use super::{Ask, Bill, Grant, Refused};
use crate::{control::proxy::Ledger, money::PicoUsd};

/// What one phase has spent.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub(super) grant: Grant,
    pub(super) settled: PicoUsd,
    pub(super) reserved: PicoUsd,
    pub(super) unresolved: PicoUsd,
    pub(super) requests: u64,
    /// Settled, reserved and unresolved.
    pub(super) tokens: u64,
    pub(super) parallel: u32,
    pub(super) bills: Bill,
    pub(super) service: Service,
    pub(super) frozen: bool,
}

/// How well the model service served.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Service {
    pub(super) answers: u64,
    pub(super) errors: u64,
    pub(super) failures: u64,
    pub(super) failures_in_a_row: u64,
}

impl Account {
    pub(super) fn new(grant: Grant) -> Self {
        Self {
            grant,
            ..Self::default()
        }
    }

    /// What was granted.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Spent for certain.
    pub fn settled(&self) -> PicoUsd {
        self.settled
    }

    /// Held by requests under way.
    pub fn reserved(&self) -> PicoUsd {
        self.reserved
    }

    /// Perhaps spent.
    pub fn unresolved(&self) -> PicoUsd {
        self.unresolved
    }

    /// Counts all that is left as perhaps spent.
    pub(super) fn exhaust(&mut self) {
        self.unresolved += self.left();
    }

    /// What a new request could hold at most.
    pub fn left(&self) -> PicoUsd {
        self.idle().saturating_sub(self.reserved)
    }

    /// Requests left.
    pub fn requests_left(&self) -> u64 {
        self.grant.max_requests.saturating_sub(self.requests)
    }

    /// The sums of this phase.
    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            budget: self.grant.budget,
            settled: self.settled,
            reserved: self.reserved,
            unresolved: self.unresolved,
            requests: self.requests,
            answers: self.service.answers,
            provider_errors: self.service.errors,
            provider_failures: self.service.failures,
            failures_in_a_row: self.service.failures_in_a_row,
            frozen: self.frozen,
            input_tokens: self.bills.input_tokens,
            cached_tokens: self.bills.cached_tokens,
            output_tokens: self.bills.output_tokens,
            ..Ledger::default()
        }
    }

    /// What would be left if requests under way cost nothing.
    fn idle(&self) -> PicoUsd {
        self.grant.budget.saturating_sub(self.settled + self.unresolved)
    }

    /// The output tokens that can be paid for, or why there are none.
    ///
    /// A request holds half of what is left at most, unless it needs more to be of any use: requests beside it shall
    /// find something too.
    pub(super) fn admit(&self, ask: &Ask) -> Result<u64, Refused> {
        if self.frozen {
            return Err(Refused::Frozen);
        }
        if self.requests_left() == 0 {
            return Err(Refused::Requests);
        }
        if self.parallel >= self.grant.max_parallel {
            return Err(Refused::Parallel);
        }
        let least = ask.least_output.min(ask.output_tokens);
        let tokens_left = self.grant.max_tokens.saturating_sub(self.tokens);
        if tokens_left < ask.input_tokens || tokens_left - ask.input_tokens < least {
            return Err(Refused::Tokens);
        }
        let left = self.left();
        if affordable(left, ask).is_none_or(|most| most < least) {
            let only_held = affordable(self.idle(), ask).is_some_and(|most| most >= least);
            return Err(if only_held { Refused::Held } else { Refused::Budget });
        }
        let half = PicoUsd::from_pico(left.pico() / 2);
        let by_money = affordable(half, ask).unwrap_or(0).max(least);
        let by_tokens = (tokens_left / 2).saturating_sub(ask.input_tokens).max(least);
        Ok(ask.output_tokens.min(by_tokens).min(by_money))
    }
}

/// The output tokens that `money` pays for after the input; `None` when it does not even pay for that.
fn affordable(money: PicoUsd, ask: &Ask) -> Option<u64> {
    let rest = money.pico().checked_sub(ask.input_cost.pico())?;
    Some(rest.checked_div(ask.output_price.pico()).unwrap_or(u64::MAX))
}
