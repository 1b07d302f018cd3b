//! The book under many hands: one lock, a write-ahead log, and reservations that cannot be forgotten.
//!
//! A log that cannot be written (a full disk) admits nobody. The ends of requests under way are kept until it can be
//! written again, and are in it before anybody else is admitted. A death meanwhile leaves those requests unresolved.
//!
//! A model in `core/tests/loom.rs` walks through every interleaving of this file (`--cfg loom`).

use std::{collections::VecDeque, io};

#[cfg(loom)]
use loom::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Arc, Mutex, MutexGuard};

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

/// A book, its log, and the lock around both: what the book says is what the log says, or will say before anybody else is
/// admitted.
#[derive(Debug)]
pub struct SharedBook<J> {
    kept: Mutex<Kept>,
    journal: J,
}

#[derive(Debug)]
struct Kept {
    book: Book,
    /// What the book knows and the log does not, in its order: a few entries for each request that was under way.
    unwritten: VecDeque<Entry>,
    /// The last line could not be written.
    broken: bool,
    /// Requests and tries that were not admitted for that.
    unrecorded: u64,
}

impl<J: Journal> SharedBook<J> {
    /// Opens the book and writes the first line.
    pub fn open(book: Book, first: &Entry, journal: J) -> io::Result<Self> {
        journal.append(first)?;
        let kept = Kept {
            book,
            unwritten: VecDeque::new(),
            broken: false,
            unrecorded: 0,
        };
        Ok(Self {
            kept: Mutex::new(kept),
            journal,
        })
    }

    /// Admits a request; its reservation is in the log when this returns.
    pub fn reserve(
        this: &Arc<Self>,
        phase: EgressPhase,
        model: &ModelSlug,
        ask: &Ask,
    ) -> Result<Reservation<J>, Denied> {
        let wanted = Wanted {
            phase,
            model: model.clone(),
            ask: *ask,
        };
        let hold = this.hold(&mut this.lock(), &wanted)?;
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

    /// Writes what could not be written before. True when nothing is left to be written.
    pub fn catch_up(&self) -> bool {
        self.write_rest(&mut self.lock())
    }

    /// Reads something of the book.
    pub fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.lock().book)
    }

    /// The log.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// Whether the last line could not be written.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// How many requests and tries were not admitted because the log could not take them.
    pub fn unrecorded(&self) -> u64 {
        self.lock().unrecorded
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        match self.kept.lock() {
            Ok(kept) => kept,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn hold(&self, kept: &mut Kept, wanted: &Wanted) -> Result<Hold, Denied> {
        let held = self.record(kept, wanted);
        kept.unrecorded += u64::from(held == Err(Denied::LogBroken));
        held
    }

    /// A reservation that cannot be written is none: the book is as before.
    fn record(&self, kept: &mut Kept, wanted: &Wanted) -> Result<Hold, Denied> {
        if !self.write_rest(kept) {
            return Err(Denied::LogBroken);
        }
        let (hold, entry) = kept.book.plan(wanted.phase, &wanted.model, &wanted.ask)?;
        kept.broken = self.journal.append(&entry).is_err();
        if kept.broken {
            return Err(Denied::LogBroken);
        }
        kept.book.apply(&entry);
        Ok(hold)
    }

    fn change(&self, change: impl FnOnce(&mut Book) -> Option<Entry>) {
        let mut kept = self.lock();
        let entry = change(&mut kept.book);
        self.write(&mut kept, entry);
    }

    /// Writes what the book has taken in, now or later.
    fn write(&self, kept: &mut Kept, entry: Option<Entry>) {
        kept.unwritten.extend(entry);
        self.write_rest(kept);
    }

    fn write_rest(&self, kept: &mut Kept) -> bool {
        while let Some(entry) = kept.unwritten.front() {
            kept.broken = self.journal.append(entry).is_err();
            if kept.broken {
                return false;
            }
            kept.unwritten.pop_front();
        }
        true
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
        let mut kept = shared.lock();
        let (id, mut after) = (self.hold.id, kept.book.clone());
        let end = |book: &mut Book| {
            if billable {
                book.unresolve(id, Fault::Retried)
            } else {
                book.release(id, Fault::Retried)
            }
        };
        end(&mut after);
        let Wanted { phase, model, ask } = &self.wanted;
        if let Err(refused) = after.plan(*phase, model, ask) {
            drop(kept);
            if billable {
                self.unresolve(Fault::Provider);
            } else {
                self.release(Fault::Provider);
            }
            return Err(refused.into());
        }
        let ended = end(&mut kept.book);
        shared.write(&mut kept, ended);
        let next = shared.hold(&mut kept, &self.wanted);
        // The lock is not to be taken twice: where there is no next try, the end of this one takes it, and finds nothing to do.
        drop(kept);
        (self.hold, self.sent) = (next?, false);
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ledger::Grant;

    /// Has room for so many lines.
    struct Room(AtomicUsize);

    impl Journal for Room {
        fn append(&self, _: &Entry) -> io::Result<()> {
            let take = |room: usize| room.checked_sub(1);
            let taken = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
            taken.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn what_the_log_cannot_take_is_refused_and_counted() {
        let grant = Grant {
            budget: PicoUsd::from_pico(1_000),
            max_requests: 10,
            max_tokens: 1_000,
            max_parallel: 10,
        };
        let (book, first) = Book::open([(EgressPhase::Agent, grant)].into(), String::new());
        // For the first line and one reservation.
        let book = Arc::new(SharedBook::open(book, &first, Room(2.into())).unwrap());
        let ask = Ask {
            input_cost: PicoUsd::from_pico(1),
            input_tokens: 1,
            output_price: PicoUsd::from_pico(1),
            output_tokens: 1,
            least_output: 1,
        };
        let model = "test/model".parse().unwrap();
        let reserve = || SharedBook::reserve(&book, EgressPhase::Agent, &model, &ask);
        let held = reserve().unwrap();
        assert_eq!((reserve().err(), book.unrecorded()), (Some(Denied::LogBroken), 1));
        assert_eq!(
            (held.again(false).err(), book.unrecorded()),
            (Some(Denied::LogBroken), 2)
        );
        book.journal().0.store(10, Ordering::SeqCst);
        assert!(reserve().is_ok());
        assert_eq!(
            book.unrecorded(),
            2,
            "what is refused by the account is another matter"
        );
    }
}
