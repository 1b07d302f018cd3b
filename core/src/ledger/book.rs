//! The accounts of all phases, and the requests under way.

use std::collections::BTreeMap;

use super::{Account, Ask, Bill, Entry, Fault, Grant, Hold, Refused};
use crate::{control::proxy::Ledger, money::PicoUsd, phase::EgressPhase, price::ModelSlug};

/// The accounts of all phases, and the requests under way.
#[derive(Debug, Clone, Default)]
pub struct Book {
    accounts: BTreeMap<EgressPhase, Account>,
    open: BTreeMap<u64, Open>,
    /// Unresolved requests whose bill the service can still tell.
    pending: BTreeMap<u64, Open>,
    last: u64,
}

#[derive(Debug, Clone)]
struct Open {
    phase: EgressPhase,
    amount: PicoUsd,
    tokens: u64,
    answer: Option<Answering>,
}

/// An answer that has begun: who tells its bill, and by which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answering {
    /// The model service, by its host.
    pub service: String,
    /// The service's name of the answer.
    pub generation: String,
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
        let (hold, entry) = self.plan(phase, model, ask)?;
        self.apply(&entry);
        Ok((hold, entry))
    }

    /// What [`Self::reserve`] would do, without doing it.
    pub fn plan(&self, phase: EgressPhase, model: &ModelSlug, ask: &Ask) -> Result<(Hold, Entry), Refused> {
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
        Ok((hold, entry))
    }

    /// Notes by which name the service tells the bill. `None` when the request has already ended.
    pub fn answering(&mut self, id: u64, service: &str, generation: &str) -> Option<Entry> {
        let (service, generation) = (service.to_owned(), generation.to_owned());
        self.end(
            id,
            Entry::Answering {
                id,
                service,
                generation,
            },
        )
    }

    /// Books the bill. `None` when the request has already ended.
    pub fn settle(&mut self, id: u64, bill: Bill, fault: Fault) -> Option<Entry> {
        self.end(id, Entry::Settle { id, bill, fault })
    }

    /// Gives the money back. `None` when the request has already ended.
    pub fn release(&mut self, id: u64, fault: Fault) -> Option<Entry> {
        self.end(id, Entry::Release { id, fault })
    }

    /// Counts the whole amount as spent. `None` when the request has already ended.
    pub fn unresolve(&mut self, id: u64, fault: Fault) -> Option<Entry> {
        self.end(id, Entry::Unresolved { id, fault })
    }

    /// Books the bill of an unresolved request. `None` unless it is one of [`Self::pending`].
    pub fn reconcile(&mut self, id: u64, bill: Bill) -> Option<Entry> {
        self.pending.contains_key(&id).then(|| {
            let entry = Entry::Reconcile { id, bill };
            self.apply(&entry);
            entry
        })
    }

    /// Admits nothing more in a phase.
    pub fn freeze(&mut self, phase: EgressPhase) -> Entry {
        let entry = Entry::Freeze { phase };
        self.apply(&entry);
        entry
    }

    /// After a crash: the requests under way are unresolved.
    pub fn close(&mut self) -> Vec<Entry> {
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter()
            .filter_map(|id| self.unresolve(id, Fault::Nobody))
            .collect()
    }

    /// The unresolved requests whose bill the service can still tell.
    pub fn pending(&self) -> impl Iterator<Item = (u64, &Answering)> {
        self.pending
            .iter()
            .filter_map(|(id, open)| Some((*id, open.answer.as_ref()?)))
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
        let accounts = self.accounts.iter().filter(|(phase, _)| wanted(**phase));
        let mut ledger = Ledger::default();
        for (_, account) in accounts {
            ledger.add(&account.ledger());
        }
        ledger
    }

    fn end(&mut self, id: u64, entry: Entry) -> Option<Entry> {
        self.open.contains_key(&id).then(|| {
            self.apply(&entry);
            entry
        })
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Open { grants, .. } => {
                let account = |(phase, grant): (&EgressPhase, &Grant)| (*phase, Account::new(*grant));
                self.accounts = grants.iter().map(account).collect();
            }
            Entry::Reserve {
                id,
                phase,
                amount,
                tokens,
                ..
            } => {
                let open = Open {
                    phase: *phase,
                    amount: *amount,
                    tokens: *tokens,
                    answer: None,
                };
                self.begin(*id, open);
            }
            Entry::Answering {
                id,
                service,
                generation,
            } => {
                if let Some(open) = self.open.get_mut(id) {
                    open.answer = Some(Answering {
                        service: service.clone(),
                        generation: generation.clone(),
                    });
                }
            }
            Entry::Settle { id, bill, fault } => {
                if let Some(open) = self.take(*id, *fault) {
                    self.book(&open, bill);
                    if *fault == Fault::Nobody {
                        let service = &mut self.accounts.entry(open.phase).or_default().service;
                        service.answers += 1;
                        service.failures_in_a_row = 0;
                    }
                }
            }
            Entry::Release { id, fault } => {
                if let Some(open) = self.take(*id, *fault) {
                    let account = self.accounts.entry(open.phase).or_default();
                    account.tokens = account.tokens.saturating_sub(open.tokens);
                }
            }
            Entry::Unresolved { id, fault } => {
                if let Some(open) = self.take(*id, *fault) {
                    self.accounts.entry(open.phase).or_default().unresolved += open.amount;
                    if open.answer.is_some() {
                        self.pending.insert(*id, open);
                    }
                }
            }
            Entry::Reconcile { id, bill } => {
                if let Some(open) = self.pending.remove(id) {
                    let account = self.accounts.entry(open.phase).or_default();
                    account.unresolved = account.unresolved.saturating_sub(open.amount);
                    self.book(&open, bill);
                }
            }
            Entry::Freeze { phase } => self.accounts.entry(*phase).or_default().frozen = true,
            Entry::Damaged => self.accounts.values_mut().for_each(Account::exhaust),
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
    fn take(&mut self, id: u64, fault: Fault) -> Option<Open> {
        let open = self.open.remove(&id)?;
        let account = self.accounts.entry(open.phase).or_default();
        account.reserved = account.reserved.saturating_sub(open.amount);
        account.parallel = account.parallel.saturating_sub(1);
        match fault {
            Fault::Nobody => {}
            Fault::Provider => {
                account.service.errors += 1;
                account.service.failures += 1;
                account.service.failures_in_a_row += 1;
            }
            // The same request comes again; the workload sent it once.
            Fault::Retried => {
                account.service.errors += 1;
                account.requests = account.requests.saturating_sub(1);
            }
        }
        Some(open)
    }

    fn book(&mut self, open: &Open, bill: &Bill) {
        let account = self.accounts.entry(open.phase).or_default();
        account.settled += bill.cost;
        account.frozen |= bill.cost > open.amount;
        let billed = bill.input_tokens.saturating_add(bill.output_tokens);
        account.tokens = account.tokens.saturating_sub(open.tokens).saturating_add(billed);
        let add = |sum: &mut u64, tokens: u64| *sum = sum.saturating_add(tokens);
        add(&mut account.bills.input_tokens, bill.input_tokens);
        add(&mut account.bills.cached_tokens, bill.cached_tokens);
        add(&mut account.bills.output_tokens, bill.output_tokens);
    }
}
