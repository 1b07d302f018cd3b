//! The account in service: the pure book of core, its write-ahead log, and reservations that cannot be forgotten.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use assay_core::{
    control::proxy::Ledger,
    ledger::{Ask, Bill, Book, Entry, Hold, Refused},
    money::PicoUsd,
    phase::EgressPhase,
    price::ModelSlug,
};

use crate::log::Log;

/// The account of the sandbox.
#[derive(Debug)]
pub struct Account {
    book: Mutex<Book>,
    log: Log,
    /// Set when the log could not be written: nothing is admitted any more.
    broken: AtomicBool,
    refused: AtomicU64,
    budget_refusals: AtomicU64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// By the account.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The write-ahead log cannot be written.
    #[error("the write-ahead log cannot be written")]
    LogBroken,
}

impl Account {
    /// Opens the account and writes the first line.
    pub fn open(book: Book, first: &Entry, log: Log) -> io::Result<Self> {
        log.append(first)?;
        Ok(Self {
            book: Mutex::new(book),
            log,
            broken: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            budget_refusals: AtomicU64::new(0),
        })
    }

    /// Admits a request; its reservation is in the log when this returns.
    pub fn reserve(
        self: &Arc<Self>,
        phase: EgressPhase,
        model: &ModelSlug,
        ask: &Ask,
    ) -> Result<Reservation, Denied> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Denied::LogBroken);
        }
        let mut book = self.book();
        let (hold, entry) = book.reserve(phase, model, ask).inspect_err(|refused| {
            if *refused == Refused::Budget {
                self.budget_refusals.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        if self.log.append(&entry).is_err() {
            self.broken.store(true, Ordering::Release);
            book.release(hold.id, false);
            return Err(Denied::LogBroken);
        }
        drop(book);
        Ok(Reservation {
            account: Arc::clone(self),
            hold,
            sent: false,
        })
    }

    /// Counts a model request that was refused, for whatever reason.
    pub fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The sums, as far as the account knows them.
    pub fn ledger(&self) -> Ledger {
        Ledger {
            refused_requests: self.refused.load(Ordering::Relaxed),
            budget_refusals: self.budget_refusals.load(Ordering::Relaxed),
            log_bytes: self.log.bytes(),
            ..self.book().ledger()
        }
    }

    /// Is the write-ahead log lost? Then nothing is admitted any more.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Reads something of the book.
    pub fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.book())
    }

    /// The write-ahead log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: impl FnOnce(&mut Book) -> Option<Entry>) {
        let mut book = self.book();
        if let Some(entry) = end(&mut book)
            && let Err(error) = self.log.append(&entry)
        {
            self.broken.store(true, Ordering::Release);
            tracing::error!(%error, "the write-ahead log cannot be written");
        }
    }
}

/// Money held for one request. Ends by [`Self::settle`], [`Self::release`] or [`Self::unresolve`]; dropped, it is
/// released before the request was sent and unresolved, which counts as spent, after that.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    account: Arc<Account>,
    hold: Hold,
    sent: bool,
}

impl Reservation {
    /// The most that the request may cost.
    pub fn amount(&self) -> PicoUsd {
        self.hold.amount
    }

    /// The output tokens that the request may ask for.
    pub fn output_tokens(&self) -> u64 {
        self.hold.output_tokens
    }

    /// From here on the request may be billed.
    pub fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// The bill is known.
    pub fn settle(self, bill: Bill) {
        self.account.end(|book| book.settle(self.hold.id, bill));
    }

    /// Nothing can be billed.
    pub fn release(self, fault: Fault) {
        self.account
            .end(|book| book.release(self.hold.id, fault == Fault::Provider));
    }

    /// Cut off before the bill was known.
    pub fn unresolve(self, fault: Fault) {
        self.account
            .end(|book| book.unresolve(self.hold.id, fault == Fault::Provider));
    }
}

/// Who caused that a request ended without a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The model service.
    Provider,
    /// Somebody else.
    Other,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (id, sent) = (self.hold.id, self.sent);
        self.account.end(|book| {
            if sent {
                book.unresolve(id, false)
            } else {
                book.release(id, false)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use assay_core::{clock::SystemClock, ledger::Grant};

    use super::*;

    fn account(folder: &tempfile::TempDir) -> Arc<Account> {
        let grant = Grant {
            budget: PicoUsd::from_pico(1_000),
            max_requests: 10,
            max_tokens: 1_000,
            max_parallel: 10,
        };
        let (book, first) = Book::open([(EgressPhase::Agent, grant)].into(), "t".to_owned());
        let file = File::create(folder.path().join("log")).unwrap();
        Arc::new(Account::open(book, &first, Log::new(file, Arc::new(SystemClock))).unwrap())
    }

    fn reserve(account: &Arc<Account>) -> Result<Reservation, Denied> {
        let model: ModelSlug = serde_json::from_str(r#""test/small""#).map_err(|_| Denied::LogBroken)?;
        let ask = Ask {
            input_cost: PicoUsd::from_pico(100),
            input_tokens: 10,
            output_price: PicoUsd::from_pico(1),
            output_tokens: 100,
            least_output: 1,
            named: true,
        };
        account.reserve(EgressPhase::Agent, &model, &ask)
    }

    #[test]
    fn a_dropped_reservation_counts_as_spent_once_it_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let account = account(&folder);
        drop(reserve(&account).unwrap());
        assert_eq!(account.ledger().cost_max(), PicoUsd::ZERO);
        let mut sent = reserve(&account).unwrap();
        sent.mark_sent();
        drop(sent);
        assert_eq!(account.ledger().unresolved.pico(), 200);
    }

    #[test]
    fn the_log_rebuilds_the_account() {
        let folder = tempfile::tempdir().unwrap();
        let account = account(&folder);
        reserve(&account).unwrap().settle(Bill {
            cost: PicoUsd::from_pico(50),
            ..Bill::default()
        });
        let _open = reserve(&account).unwrap();
        let entries = assay_core::ledger::log::read(&std::fs::read(folder.path().join("log")).unwrap());
        let mut replayed = Book::replay(&entries);
        assert_eq!(replayed.ledger().reserved.pico(), 200);
        assert_eq!(replayed.close().len(), 1);
        assert_eq!(replayed.ledger().cost_max().pico(), 250);
    }

    #[test]
    fn nothing_is_admitted_when_the_log_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let account = account(&folder);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let broken = Arc::new(Account {
            book: Mutex::new(account.read(Clone::clone)),
            log: Log::new(full, Arc::new(SystemClock)),
            broken: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            budget_refusals: AtomicU64::new(0),
        });
        assert_eq!(reserve(&broken).unwrap_err(), Denied::LogBroken);
        assert_eq!(broken.ledger().reserved, PicoUsd::ZERO);
    }
}
