//! The book under many hands: one lock, a write-ahead log, and reservations that cannot be forgotten.
//!
//! A model in `core/tests/loom.rs` walks through every interleaving of this file (`--cfg loom`).

use std::io;

#[cfg(loom)]
use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use super::{Ask, Bill, Book, Entry, Fault, Hold, Refused};
use crate::{money::PicoUsd, phase::EgressPhase, price::ModelSlug};

/// Where entries are kept. An entry outlives the process once this returns.
pub trait Journal {
    /// Keeps one entry.
    fn append(&self, entry: &Entry) -> io::Result<()>;
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

/// A book, its log, and the lock around both: what the book says is what the log says.
#[derive(Debug)]
pub struct SharedBook<J> {
    book: Mutex<Book>,
    journal: J,
    /// Set when the log could not be written: nothing is admitted any more.
    broken: AtomicBool,
}

impl<J: Journal> SharedBook<J> {
    /// Opens the book and writes the first line.
    pub fn open(book: Book, first: &Entry, journal: J) -> io::Result<Self> {
        journal.append(first)?;
        Ok(Self {
            book: Mutex::new(book),
            journal,
            broken: AtomicBool::new(false),
        })
    }

    /// Admits a request; its reservation is in the log when this returns.
    pub fn reserve(
        this: &Arc<Self>,
        phase: EgressPhase,
        model: &ModelSlug,
        ask: &Ask,
    ) -> Result<Reservation<J>, Denied> {
        let mut book = this.lock();
        if this.broken.load(Ordering::Acquire) {
            return Err(Denied::LogBroken);
        }
        let (hold, entry) = book.reserve(phase, model, ask)?;
        if this.journal.append(&entry).is_err() {
            this.broken.store(true, Ordering::Release);
            book.release(hold.id, Fault::Nobody);
            return Err(Denied::LogBroken);
        }
        drop(book);
        let wanted = Wanted {
            phase,
            model: model.clone(),
            ask: *ask,
        };
        Ok(Reservation {
            book: Arc::clone(this),
            hold,
            sent: false,
            wanted,
        })
    }

    /// Books the bill of an unresolved request.
    pub fn reconcile(&self, id: u64, bill: Bill) {
        self.change(|book| book.reconcile(id, bill));
    }

    /// Admits nothing more in a phase.
    pub fn freeze(&self, phase: EgressPhase) {
        self.change(|book| Some(book.freeze(phase)));
    }

    /// Reads something of the book.
    pub fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.lock())
    }

    /// The log.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// Whether the log could not be written.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        match self.book.lock() {
            Ok(book) => book,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Book) -> Option<Entry>) {
        let mut book = self.lock();
        if let Some(entry) = change(&mut book)
            && self.journal.append(&entry).is_err()
        {
            self.broken.store(true, Ordering::Release);
        }
    }
}

/// Money held for one request. Ends by [`Self::settle`], [`Self::release`] or [`Self::unresolve`]; dropped, it is
/// released before the request was sent and unresolved, which counts as spent, after that.
#[derive(Debug)]
#[must_use]
pub struct Reservation<J: Journal> {
    book: Arc<SharedBook<J>>,
    hold: Hold,
    sent: bool,
    wanted: Wanted,
}

/// What was asked for, to be asked again.
#[derive(Debug, Clone)]
struct Wanted {
    phase: EgressPhase,
    model: ModelSlug,
    ask: Ask,
}

impl<J: Journal> Reservation<J> {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.hold.id
    }

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

    /// The service named its answer; by that name it tells the bill, even to another process.
    pub fn answering(&self, service: &str, generation: &str) {
        self.book
            .change(|book| book.answering(self.hold.id, service, generation));
    }

    /// The model service failed and is tried again: ends this request and reserves for the next try in one step, so that
    /// nobody takes the money in between. `billable` when the failed try may be billed.
    ///
    /// Where the next try is not admitted, the request has failed.
    pub fn again(mut self, billable: bool) -> Result<Self, Denied> {
        let shared = Arc::clone(&self.book);
        let mut book = shared.lock();
        let mut after = book.clone();
        let ended = if billable {
            after.unresolve(self.hold.id, Fault::Retried)
        } else {
            after.release(self.hold.id, Fault::Retried)
        };
        let next = after.reserve(self.wanted.phase, &self.wanted.model, &self.wanted.ask);
        let (hold, entry) = match next {
            Ok(next) => next,
            Err(refused) => {
                drop(book);
                if billable {
                    self.unresolve(Fault::Provider);
                } else {
                    self.release(Fault::Provider);
                }
                return Err(refused.into());
            }
        };
        let lines = ended.iter().chain([&entry]);
        if lines.into_iter().any(|line| shared.journal.append(line).is_err()) {
            shared.broken.store(true, Ordering::Release);
            // The lock is not to be taken twice: the reservation ends below.
            drop(book);
            return Err(Denied::LogBroken);
        }
        *book = after;
        drop(book);
        (self.hold, self.sent) = (hold, false);
        Ok(self)
    }

    /// The bill is known.
    pub fn settle(self, bill: Bill, fault: Fault) {
        self.book.change(|book| book.settle(self.hold.id, bill, fault));
    }

    /// Nothing can be billed.
    pub fn release(self, fault: Fault) {
        self.book.change(|book| book.release(self.hold.id, fault));
    }

    /// Cut off before the bill was known.
    pub fn unresolve(self, fault: Fault) {
        self.book.change(|book| book.unresolve(self.hold.id, fault));
    }
}

/// Does nothing for a request that has ended.
impl<J: Journal> Drop for Reservation<J> {
    fn drop(&mut self) {
        let (id, sent) = (self.hold.id, self.sent);
        self.book.change(|book| {
            if sent {
                book.unresolve(id, Fault::Nobody)
            } else {
                book.release(id, Fault::Nobody)
            }
        });
    }
}
