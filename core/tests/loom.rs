//! Every interleaving of the shared book: `RUSTFLAGS="--cfg loom" cargo test -p assay-core --test loom`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io;

use assay_core::{
    ledger::{
        Ask, Bill, Book, Entry, Fault, Grant, Refused,
        shared::{Denied, Journal, Reservation, SharedBook},
    },
    money::PicoUsd,
    phase::EgressPhase,
};
use loom::{
    sync::{Arc, Mutex},
    thread,
};

const AGENT: EgressPhase = EgressPhase::Agent;

/// Keeps lines in memory, as many as there is room for.
struct Lines {
    lines: Mutex<Vec<Entry>>,
    room: Mutex<usize>,
}

impl Journal for Lines {
    fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap();
        if lines.len() >= *self.room.lock().unwrap() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lines.push(entry.clone());
        Ok(())
    }
}

fn shared(budget: u64, room: usize) -> Arc<SharedBook<Lines>> {
    let grant = Grant {
        budget: PicoUsd::from_pico(budget),
        max_requests: 10,
        max_tokens: 1_000,
        max_parallel: 10,
    };
    let (book, first) = Book::open([(AGENT, grant)].into(), String::new());
    let lines = Lines {
        lines: Mutex::new(Vec::new()),
        room: Mutex::new(room),
    };
    Arc::new(SharedBook::open(book, &first, lines).unwrap())
}

/// Costs 60 at most.
fn reserve(book: &Arc<SharedBook<Lines>>) -> Result<Reservation<Lines>, Denied> {
    let ask = Ask {
        input_cost: PicoUsd::from_pico(10),
        input_tokens: 1,
        output_price: PicoUsd::from_pico(10),
        output_tokens: 5,
        least_output: 5,
    };
    SharedBook::reserve(book, AGENT, &"test/model".parse().unwrap(), &ask)
}

fn bill(cost: u64) -> Bill {
    Bill {
        cost: PicoUsd::from_pico(cost),
        ..Bill::default()
    }
}

fn replayed(book: &SharedBook<Lines>) -> Book {
    Book::replay(&*book.journal().lines.lock().unwrap())
}

#[test]
fn two_that_need_more_than_half_are_never_both_admitted_before_one_has_ended() {
    loom::model(|| {
        let book = shared(100, usize::MAX);
        let other = Arc::clone(&book);
        let thread = thread::spawn(move || {
            let held = reserve(&other)?;
            held.settle(bill(60), Fault::Nobody);
            Ok::<(), Denied>(())
        });
        let mine = reserve(&book).map(|held| held.settle(bill(60), Fault::Nobody));
        let theirs = thread.join().unwrap();
        let ledger = book.read(Book::ledger);
        // The one that came while the other held is refused for now, the one that came after it for good.
        let refused = [mine.err(), theirs.err()];
        let allowed = [Refused::Held, Refused::Budget].map(|why| Some(Denied::Refused(why)));
        assert_eq!(refused.iter().filter(|refused| refused.is_none()).count(), 1);
        assert!(
            refused.iter().all(|why| why.is_none() || allowed.contains(why)),
            "{refused:?}"
        );
        assert_eq!(ledger.cost_max().pico(), 60);
        assert_eq!(replayed(&book).ledger(), ledger);
    });
}

#[test]
fn an_abort_at_any_moment_is_spent_once_sent_and_free_before() {
    loom::model(|| {
        let book = shared(200, usize::MAX);
        let (aborted, settled) = (Arc::clone(&book), Arc::clone(&book));
        let abort = thread::spawn(move || {
            let mut held = reserve(&aborted).unwrap();
            held.mark_sent();
            drop(held);
            drop(reserve(&aborted).unwrap());
        });
        let settle = thread::spawn(move || {
            let held = reserve(&settled).unwrap();
            held.answering("host", "gen-1");
            held.settle(bill(7), Fault::Nobody);
        });
        abort.join().unwrap();
        settle.join().unwrap();
        let ledger = book.read(Book::ledger);
        assert_eq!((ledger.cost_min().pico(), ledger.cost_max().pico()), (7, 67));
        assert_eq!(replayed(&book).ledger(), ledger);
    });
}

#[test]
fn a_crash_at_any_moment_loses_no_request_that_was_forwarded() {
    loom::model(|| {
        let book = shared(200, usize::MAX);
        let forwarded = Arc::new(Mutex::new(0_u64));
        let (caller, count) = (Arc::clone(&book), Arc::clone(&forwarded));
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                let mut held = reserve(&caller).unwrap();
                held.mark_sent();
                // From here on the service may bill up to 60.
                *count.lock().unwrap() += 60;
                held.settle(bill(60), Fault::Nobody);
            }
        });
        let billed = *forwarded.lock().unwrap();
        let mut crashed = replayed(&book);
        crashed.close();
        assert!(crashed.ledger().cost_max().pico() >= billed);
        assert!(crashed.ledger().cost_max().pico() <= 200);
        thread.join().unwrap();
    });
}

#[test]
fn a_retry_never_holds_twice_nor_lets_go_in_between() {
    loom::model(|| {
        let book = shared(100, usize::MAX);
        let first = reserve(&book).unwrap();
        let other = Arc::clone(&book);
        let thread = thread::spawn(move || reserve(&other).err());
        let again = first.again(false).unwrap();
        let refused = Denied::Refused(Refused::Held);
        assert_eq!(thread.join().unwrap(), Some(refused), "the money was never free");
        again.settle(bill(1), Fault::Nobody);
        let ledger = book.read(Book::ledger);
        assert_eq!((ledger.requests, ledger.provider_errors), (1, 1));
        assert_eq!(replayed(&book).ledger(), ledger);
    });
}

#[test]
fn while_the_log_is_broken_nobody_is_admitted() {
    loom::model(|| {
        let book = shared(1_000, 2);
        let other = Arc::clone(&book);
        let thread = thread::spawn(move || reserve(&other).map(drop).is_ok());
        let mine = reserve(&book).map(drop).is_ok();
        let theirs = thread.join().unwrap();
        assert!(!(mine && theirs), "one line could be written, not two");
        assert_eq!(reserve(&book).err(), Some(Denied::LogBroken));
        let before = book.read(Book::ledger);
        *book.journal().room.lock().unwrap() = usize::MAX;
        assert!(book.catch_up());
        assert_eq!(replayed(&book).ledger(), before, "who was refused left no trace");
        assert!(reserve(&book).is_ok() && !book.is_broken());
    });
}

#[test]
fn what_could_not_be_written_is_in_the_log_before_anybody_else_is_admitted() {
    loom::model(|| {
        let book = shared(100, 2);
        let held = reserve(&book).unwrap();
        let thread = thread::spawn(move || held.settle(bill(60), Fault::Nobody));
        *book.journal().room.lock().unwrap() = usize::MAX;
        // Fits in no order: 60 are held or spent.
        let refused = reserve(&book).err();
        let mut crashed = replayed(&book);
        crashed.close();
        assert_eq!(crashed.ledger().cost_max().pico(), 60, "{refused:?}");
        thread.join().unwrap();
        assert!(book.catch_up());
        assert_eq!(replayed(&book).ledger(), book.read(Book::ledger));
    });
}

#[test]
fn a_retry_that_cannot_be_written_ends_as_the_try_before_it() {
    loom::model(|| {
        let book = shared(200, 2);
        let mut first = reserve(&book).unwrap();
        first.mark_sent();
        let other = Arc::clone(&book);
        let thread = thread::spawn(move || *other.journal().room.lock().unwrap() = usize::MAX);
        let again = first.again(false).map(drop);
        thread.join().unwrap();
        assert!(again.is_ok() || again == Err(Denied::LogBroken));
        assert!(book.catch_up());
        let ledger = book.read(Book::ledger);
        assert_eq!((ledger.cost_max().pico(), ledger.reserved.pico()), (0, 0));
        assert_eq!(replayed(&book).ledger(), ledger);
    });
}
