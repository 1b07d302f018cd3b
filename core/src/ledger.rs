//! The account of one sandbox: reserve, then settle, in integer pico-USD. Pure state, no I/O.
//!
//! A request is admitted only when the most that it can cost fits what is left, so that no number of requests at the
//! same time can overspend. A reservation ends in exactly one of three ways: settled with the bill, released because
//! nothing can be billed, or unresolved, which counts as spent in full. Every change is an [`Entry`] of the proxy's
//! write-ahead log; [`Book::replay`] rebuilds the account from them.

pub mod log;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    control::proxy::{Ledger, Purse},
    money::PicoUsd,
    phase::EgressPhase,
    price::ModelSlug,
};

/// What one phase may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// Dollars.
    pub budget: PicoUsd,
    /// Requests.
    pub max_requests: u64,
    /// Tokens, in and out together.
    pub max_tokens: u64,
    /// Requests at the same time.
    pub max_parallel: u32,
}

impl From<&Purse> for Grant {
    fn from(purse: &Purse) -> Self {
        Self {
            budget: purse.budget,
            max_requests: purse.max_requests,
            max_tokens: purse.max_tokens,
            max_parallel: purse.max_parallel,
        }
    }
}

/// What a request wants, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The most that input and request can cost.
    pub input_cost: PicoUsd,
    /// Input tokens, at most.
    pub input_tokens: u64,
    /// Per output token.
    pub output_price: PicoUsd,
    /// Output tokens wanted.
    pub output_tokens: u64,
    /// Output below which the request is not worth making.
    pub least_output: u64,
    /// Whether the workload itself named `output_tokens`. A request that did not may hold half of what is left at most,
    /// so that requests beside it find something.
    pub named: bool,
}

/// A request that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// What is held.
    pub amount: PicoUsd,
    /// The output tokens that this pays for; the request must not ask for more.
    pub output_tokens: u64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The phase has no purse.
    #[error("no model may be called in this phase")]
    NoPurse,
    /// A bill was higher than the bound that it was admitted under.
    #[error("the account is frozen: a bill was higher than its bound")]
    Frozen,
    /// All requests are used up.
    #[error("all requests are used up")]
    Requests,
    /// Too many at the same time.
    #[error("too many requests at the same time")]
    Parallel,
    /// The tokens that are left do not cover the request.
    #[error("the tokens that are left do not cover the request")]
    Tokens,
    /// The money that is left does not cover the request.
    #[error("the money that is left does not cover the request")]
    Budget,
    /// It would fit if requests under way cost nothing.
    #[error("requests under way hold the money that is left")]
    Held,
}

/// What a request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bill {
    /// Dollars.
    pub cost: PicoUsd,
    /// Tokens in.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
}

/// One line of the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The account is opened.
    Open {
        /// What each phase may spend.
        grants: BTreeMap<EgressPhase, Grant>,
        /// Which prices hold.
        price_version: String,
    },
    /// A request is admitted. Written before it is forwarded.
    Reserve {
        /// Its number.
        id: u64,
        /// Whose purse pays.
        phase: EgressPhase,
        /// The first model that it names.
        model: ModelSlug,
        /// What is held.
        amount: PicoUsd,
        /// Tokens held, in and out.
        tokens: u64,
    },
    /// The bill is known.
    Settle {
        /// The request.
        id: u64,
        /// What it cost.
        bill: Bill,
    },
    /// Nothing can be billed.
    Release {
        /// The request.
        id: u64,
        /// The model service was at fault.
        provider_error: bool,
    },
    /// Cut off before the bill was known: the whole amount counts as spent.
    Unresolved {
        /// The request.
        id: u64,
        /// The model service was at fault.
        provider_error: bool,
    },
}

/// What one phase has spent.
#[derive(Debug, Clone, Default)]
pub struct Account {
    grant: Grant,
    settled: PicoUsd,
    reserved: PicoUsd,
    unresolved: PicoUsd,
    requests: u64,
    /// Settled, reserved and unresolved.
    tokens: u64,
    parallel: u32,
    bills: Bill,
    provider_errors: u64,
    frozen: bool,
}

impl Account {
    fn new(grant: Grant) -> Self {
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

    /// Held by requests under way, or perhaps spent.
    pub fn held(&self) -> PicoUsd {
        self.reserved + self.unresolved
    }

    /// What a new request could hold at most.
    pub fn left(&self) -> PicoUsd {
        self.grant.budget.saturating_sub(self.settled + self.held())
    }

    /// Requests left.
    pub fn requests_left(&self) -> u64 {
        self.grant.max_requests.saturating_sub(self.requests)
    }

    /// The output tokens that can be paid for, or why there are none.
    fn admit(&self, ask: &Ask) -> Result<u64, Refused> {
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
        let by_tokens = tokens_left.saturating_sub(ask.input_tokens);
        if tokens_left < ask.input_tokens || by_tokens < least {
            return Err(Refused::Tokens);
        }
        let Some(most) = affordable(self.left(), ask).filter(|most| *most >= least) else {
            let idle = self.grant.budget.saturating_sub(self.settled + self.unresolved);
            let only_held = affordable(idle, ask).is_some_and(|most| most >= least);
            return Err(if only_held { Refused::Held } else { Refused::Budget });
        };
        let fair = if ask.named {
            most
        } else {
            let half = PicoUsd::from_pico(self.left().pico() / 2);
            affordable(half, ask).unwrap_or(0).max(least)
        };
        Ok(ask.output_tokens.min(by_tokens).min(most).min(fair))
    }
}

/// The accounts of all phases, and the requests under way.
#[derive(Debug, Clone, Default)]
pub struct Book {
    accounts: BTreeMap<EgressPhase, Account>,
    open: BTreeMap<u64, Open>,
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    phase: EgressPhase,
    amount: PicoUsd,
    tokens: u64,
}

impl Book {
    /// Opens the account.
    pub fn open(grants: BTreeMap<EgressPhase, Grant>, price_version: String) -> (Self, Entry) {
        let entry = Entry::Open {
            grants,
            price_version,
        };
        (Self::replay([&entry]), entry)
    }

    /// Rebuilds the account from a log. What was under way is still so; see [`Self::close`].
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut book = Self::default();
        for entry in entries {
            book.apply(entry);
        }
        book
    }

    /// Admits a request, or says why not. The entry must be in the log before the request is forwarded.
    pub fn reserve(
        &mut self,
        phase: EgressPhase,
        model: &ModelSlug,
        ask: &Ask,
    ) -> Result<(Hold, Entry), Refused> {
        let account = self.accounts.get(&phase).ok_or(Refused::NoPurse)?;
        let output_tokens = account.admit(ask)?;
        let hold = Hold {
            id: self.last + 1,
            amount: ask.input_cost + ask.output_price.times(output_tokens),
            output_tokens,
        };
        let entry = Entry::Reserve {
            id: hold.id,
            phase,
            model: model.clone(),
            amount: hold.amount,
            tokens: ask.input_tokens.saturating_add(output_tokens),
        };
        self.apply(&entry);
        Ok((hold, entry))
    }

    /// Books the bill. `None` when the request has already ended.
    pub fn settle(&mut self, id: u64, bill: Bill) -> Option<Entry> {
        self.end(id, Entry::Settle { id, bill })
    }

    /// Gives the money back. `None` when the request has already ended.
    pub fn release(&mut self, id: u64, provider_error: bool) -> Option<Entry> {
        self.end(id, Entry::Release { id, provider_error })
    }

    /// Counts the whole amount as spent. `None` when the request has already ended.
    pub fn unresolve(&mut self, id: u64, provider_error: bool) -> Option<Entry> {
        self.end(id, Entry::Unresolved { id, provider_error })
    }

    /// After a crash: nobody will ever know what the requests under way cost.
    pub fn close(&mut self) -> Vec<Entry> {
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter()
            .filter_map(|id| self.unresolve(id, false))
            .collect()
    }

    /// The account of a phase.
    pub fn account(&self, phase: EgressPhase) -> Option<&Account> {
        self.accounts.get(&phase)
    }

    /// Requests whose end is not known yet.
    pub fn under_way(&self) -> usize {
        self.open.len()
    }

    /// The sums over all phases. Refusals and file lengths are the proxy's to fill in.
    pub fn ledger(&self) -> Ledger {
        self.ledger_of(|_| true)
    }

    /// The sums over the phases that are wanted.
    pub fn ledger_of(&self, wanted: impl Fn(EgressPhase) -> bool) -> Ledger {
        let accounts: Vec<&Account> = self
            .accounts
            .iter()
            .filter(|(phase, _)| wanted(**phase))
            .map(|(_, account)| account)
            .collect();
        let money = |part: fn(&Account) -> PicoUsd| accounts.iter().map(|account| part(account)).sum();
        let count = |part: fn(&Account) -> u64| {
            let parts = accounts.iter().map(|account| part(account));
            parts.fold(0, u64::saturating_add)
        };
        Ledger {
            budget: money(|account| account.grant.budget),
            settled: money(|account| account.settled),
            reserved: money(|account| account.reserved),
            unresolved: money(|account| account.unresolved),
            requests: count(|account| account.requests),
            provider_errors: count(|account| account.provider_errors),
            input_tokens: count(|account| account.bills.input_tokens),
            cached_tokens: count(|account| account.bills.cached_tokens),
            output_tokens: count(|account| account.bills.output_tokens),
            ..Ledger::default()
        }
    }

    fn end(&mut self, id: u64, entry: Entry) -> Option<Entry> {
        self.open.contains_key(&id).then(|| {
            self.apply(&entry);
            entry
        })
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Open { grants, .. } => {
                self.accounts = grants
                    .iter()
                    .map(|(phase, grant)| (*phase, Account::new(*grant)))
                    .collect();
            }
            Entry::Reserve {
                id,
                phase,
                amount,
                tokens,
                ..
            } => self.begin(
                *id,
                Open {
                    phase: *phase,
                    amount: *amount,
                    tokens: *tokens,
                },
            ),
            Entry::Settle { id, bill } => {
                let Some((account, open)) = self.take(*id) else {
                    return;
                };
                account.settled += bill.cost;
                account.frozen |= bill.cost > open.amount;
                let billed = bill.input_tokens.saturating_add(bill.output_tokens);
                account.tokens = account.tokens.saturating_sub(open.tokens).saturating_add(billed);
                let bills = &mut account.bills;
                bills.input_tokens = bills.input_tokens.saturating_add(bill.input_tokens);
                bills.cached_tokens = bills.cached_tokens.saturating_add(bill.cached_tokens);
                bills.output_tokens = bills.output_tokens.saturating_add(bill.output_tokens);
            }
            Entry::Release { id, provider_error } => {
                if let Some((account, open)) = self.take(*id) {
                    account.tokens = account.tokens.saturating_sub(open.tokens);
                    account.provider_errors += u64::from(*provider_error);
                }
            }
            Entry::Unresolved { id, provider_error } => {
                if let Some((account, open)) = self.take(*id) {
                    account.unresolved += open.amount;
                    account.provider_errors += u64::from(*provider_error);
                }
            }
        }
    }

    fn begin(&mut self, id: u64, open: Open) {
        let account = self.accounts.entry(open.phase).or_default();
        account.reserved += open.amount;
        account.tokens = account.tokens.saturating_add(open.tokens);
        account.requests += 1;
        account.parallel += 1;
        self.last = self.last.max(id);
        self.open.insert(id, open);
    }

    /// Takes a request out of those under way, and its amount out of what is reserved.
    fn take(&mut self, id: u64) -> Option<(&mut Account, Open)> {
        let open = self.open.remove(&id)?;
        let account = self.accounts.get_mut(&open.phase)?;
        account.reserved = account.reserved.saturating_sub(open.amount);
        account.parallel = account.parallel.saturating_sub(1);
        Some((account, open))
    }
}

/// The output tokens that `money` pays for after the input; `None` when it does not even pay for that.
fn affordable(money: PicoUsd, ask: &Ask) -> Option<u64> {
    let rest = money.pico().checked_sub(ask.input_cost.pico())?;
    Some(rest.checked_div(ask.output_price.pico()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
