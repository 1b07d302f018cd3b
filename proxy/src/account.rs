//! The account in service: the shared book of core over our write-ahead log, and a queue for those who have to wait.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use assay_core::{
    control::proxy::{Ledger, Purse},
    ledger::{
        Ask, Bill, Book, Entry, Fault, Grant, Refused,
        shared::{self, SharedBook},
    },
    money::PicoUsd,
    phase::EgressPhase,
    price::ModelSlug,
};
use tokio::{
    sync::Notify,
    time::{sleep_until, timeout_at},
};

use crate::{log::Log, rate::Rates};

/// The account of the sandbox.
#[derive(Debug)]
pub struct Account {
    book: Arc<SharedBook<Log>>,
    rates: Mutex<BTreeMap<EgressPhase, Rates>>,
    /// Held by the first of those who wait; the others queue for it in their order.
    turn: tokio::sync::Mutex<()>,
    /// Told whenever a request ends.
    ended: Arc<Notify>,
    refused: AtomicU64,
    budget_refusals: AtomicU64,
    asking: Arc<AtomicU64>,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// By the book.
    #[error(transparent)]
    Book(#[from] shared::Denied),
    /// More in a minute than the policy allows, for longer than a request can wait.
    #[error("more requests or tokens in a minute than the run may have")]
    Rate,
}

impl Account {
    /// Opens the account of these purses and writes the first line.
    pub fn open(purses: &BTreeMap<EgressPhase, Purse>, price_version: &str, log: Log) -> io::Result<Self> {
        let grants = purses.iter().map(|(phase, purse)| (*phase, Grant::from(purse)));
        let (book, first) = Book::open(grants.collect(), price_version.to_owned());
        Ok(Self {
            book: Arc::new(SharedBook::open(book, &first, log)?),
            rates: Mutex::new(
                purses
                    .iter()
                    .map(|(phase, purse)| (*phase, purse.into()))
                    .collect(),
            ),
            turn: tokio::sync::Mutex::new(()),
            ended: Arc::default(),
            refused: AtomicU64::new(0),
            budget_refusals: AtomicU64::new(0),
            asking: Arc::default(),
        })
    }

    /// Admits a request; its reservation is in the log when this returns.
    ///
    /// A request that would fit if those under way had ended waits for them, and one above the rate for its time; those
    /// who wait are served in the order in which they came. None waits longer than half a minute.
    pub async fn admit(
        &self,
        phase: EgressPhase,
        model: &ModelSlug,
        ask: &Ask,
    ) -> Result<Reservation, Denied> {
        let end = tokio::time::Instant::now() + PATIENCE;
        let busy = || match self.reserve(phase, model, ask) {
            Err(denied) => denied,
            Ok(_) => Denied::Rate,
        };
        let Ok(_turn) = timeout_at(end, self.turn.lock()).await else {
            return Err(busy());
        };
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on no end is missed.
            ended.as_mut().enable();
            let tokens = ask.input_tokens.saturating_add(ask.output_tokens);
            let wait = self.with_rates(phase, |rates| rates.wait(Instant::now(), tokens));
            if !wait.is_zero() {
                let at = tokio::time::Instant::now() + wait.min(PATIENCE * 2);
                if at > end {
                    return Err(Denied::Rate);
                }
                sleep_until(at).await;
                continue;
            }
            match self.reserve(phase, model, ask) {
                Err(Denied::Book(shared::Denied::Refused(refused))) if refused.is_passing() => {
                    if timeout_at(end, ended).await.is_err() {
                        return Err(shared::Denied::from(refused).into());
                    }
                }
                Ok(reservation) => {
                    self.with_rates(phase, |rates| rates.take(Instant::now(), tokens));
                    return Ok(reservation);
                }
                Err(denied) => return Err(denied),
            }
        }
    }

    fn reserve(&self, phase: EgressPhase, model: &ModelSlug, ask: &Ask) -> Result<Reservation, Denied> {
        let inner = SharedBook::reserve(&self.book, phase, model, ask);
        if inner.as_ref().err() == Some(&Refused::Budget.into()) {
            self.budget_refusals.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Reservation {
            inner: inner?,
            wake: Wake(Arc::clone(&self.ended)),
        })
    }

    fn with_rates<T: Default>(&self, phase: EgressPhase, with: impl FnOnce(&mut Rates) -> T) -> T {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.get_mut(&phase).map(with).unwrap_or_default()
    }

    /// Books the bill of an unresolved request.
    pub fn reconcile(&self, id: u64, bill: Bill) {
        self.book.reconcile(id, bill);
        self.ended.notify_waiters();
    }

    /// Admits nothing more in a phase.
    pub fn freeze(&self, phase: EgressPhase) {
        self.book.freeze(phase);
    }

    /// Counts a bill that is being asked for, until it is dropped.
    pub fn asking(&self) -> Asking {
        self.asking.fetch_add(1, Ordering::Relaxed);
        Asking(Arc::clone(&self.asking))
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
            unrecorded: self.book.unrecorded(),
            reconciling: self.asking.load(Ordering::Relaxed),
            log_bytes: self.log().bytes(),
            ..self.book.read(Book::ledger)
        }
    }

    /// Could the last line of the write-ahead log not be written?
    pub fn is_broken(&self) -> bool {
        self.book.is_broken()
    }

    /// Writes what the log could not take before.
    pub fn catch_up(&self) -> bool {
        self.book.catch_up()
    }

    /// Reads something of the book.
    pub fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        self.book.read(read)
    }

    /// The write-ahead log.
    pub fn log(&self) -> &Log {
        self.book.journal()
    }
}

impl shared::Journal for Log {
    fn append(&self, entry: &Entry) -> io::Result<()> {
        self.append(entry)
    }
}

/// Money held for one request, see [`shared::Reservation`]. Its end wakes those who wait for money.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    inner: shared::Reservation<Log>,
    /// Dropped after the reservation has ended.
    wake: Wake,
}

#[derive(Debug)]
struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl Reservation {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.inner.id()
    }

    /// The most that the request may cost.
    pub fn amount(&self) -> PicoUsd {
        self.inner.amount()
    }

    /// The output tokens that the request may ask for.
    pub fn output_tokens(&self) -> u64 {
        self.inner.output_tokens()
    }

    /// From here on the request may be billed.
    pub fn mark_sent(&mut self) {
        self.inner.mark_sent();
    }

    /// The service named its answer.
    pub fn answering(&self, service: &str, generation: &str) {
        self.inner.answering(service, generation);
    }

    /// Ends this try and reserves for the next in one step.
    pub fn again(self, billable: bool) -> Result<Self, Denied> {
        let Self { inner, wake } = self;
        Ok(Self {
            inner: inner.again(billable)?,
            wake,
        })
    }

    /// The bill is known.
    pub fn settle(self, bill: Bill, fault: Fault) {
        self.inner.settle(bill, fault);
    }

    /// Nothing can be billed.
    pub fn release(self, fault: Fault) {
        self.inner.release(fault);
    }

    /// Cut off before the bill was known.
    pub fn unresolve(self, fault: Fault) {
        self.inner.unresolve(fault);
    }
}

/// A bill that is being asked for.
#[derive(Debug)]
pub struct Asking(Arc<AtomicU64>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Software libraries wait ten minutes for an answer; half of one for its begin is not missed.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
