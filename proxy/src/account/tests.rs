use std::fs::File;

use assay_core::{clock::SystemClock, ledger::log};
use proptest::prelude::*;

use super::*;

const AGENT: EgressPhase = EgressPhase::Agent;

fn purse() -> Purse {
    serde_json::from_value(serde_json::json!({
        "budget": "0.000000001", "models": [], "max_requests": 100, "max_tokens": 1_000, "max_parallel": 10,
    }))
    .unwrap()
}

fn open(file: File, purse: Purse) -> io::Result<Arc<Account>> {
    let log = Log::new(file, Arc::new(SystemClock));
    Account::open(&[(AGENT, purse)].into(), "t", log).map(Arc::new)
}

fn account(folder: &tempfile::TempDir) -> Arc<Account> {
    open(File::create(folder.path().join("log")).unwrap(), purse()).unwrap()
}

fn model() -> ModelSlug {
    "test/small".parse().unwrap()
}

/// Costs `input` and one for each of 100 tokens, of which `least` are needed.
fn ask(input: u64, least: u64) -> Ask {
    Ask {
        input_cost: PicoUsd::from_pico(input),
        input_tokens: 10,
        output_price: PicoUsd::from_pico(1),
        output_tokens: 100,
        least_output: least,
    }
}

fn bill(cost: u64) -> Bill {
    Bill {
        cost: PicoUsd::from_pico(cost),
        ..Bill::default()
    }
}

#[tokio::test]
async fn a_dropped_reservation_counts_as_spent_once_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder);
    drop(account.admit(AGENT, &model(), &ask(100, 1)).await.unwrap());
    assert_eq!(account.ledger().cost_max(), PicoUsd::ZERO);
    let mut sent = account.admit(AGENT, &model(), &ask(100, 1)).await.unwrap();
    sent.mark_sent();
    drop(sent);
    assert_eq!(account.ledger().unresolved.pico(), 200);
}

#[tokio::test]
async fn the_log_rebuilds_the_account() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder);
    let settled = account.admit(AGENT, &model(), &ask(100, 1)).await.unwrap();
    settled.settle(bill(50), Fault::Nobody);
    let _open = account.admit(AGENT, &model(), &ask(100, 1)).await.unwrap();
    let entries = log::read(&std::fs::read(folder.path().join("log")).unwrap());
    let mut replayed = Book::replay(&entries);
    assert_eq!(replayed.ledger().reserved.pico(), 200);
    assert_eq!(replayed.close().len(), 1);
    assert_eq!(replayed.ledger().cost_max().pico(), 250);
}

#[tokio::test]
async fn nothing_is_opened_without_a_log() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert!(open(full, purse()).is_err());
}

#[tokio::test(start_paused = true)]
async fn who_has_to_wait_is_served_in_order_as_soon_as_there_is_money() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder);
    let first = account.admit(AGENT, &model(), &ask(900, 100)).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let waiting = |name: u64, input| {
        let (account, order) = (Arc::clone(&account), Arc::clone(&order));
        tokio::spawn(async move {
            let held = account.admit(AGENT, &model(), &ask(input, 100)).await.unwrap();
            order.lock().unwrap().push(name);
            held.settle(bill(0), Fault::Nobody);
        })
    };
    let large = waiting(1, 800);
    tokio::task::yield_now().await;
    // Would fit more easily, and came later.
    let small = waiting(2, 1);
    tokio::task::yield_now().await;
    assert!(order.lock().unwrap().is_empty());
    first.settle(bill(10), Fault::Nobody);
    large.await.unwrap();
    small.await.unwrap();
    assert_eq!(*order.lock().unwrap(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder);
    let _held = account.admit(AGENT, &model(), &ask(900, 100)).await.unwrap();
    let start = tokio::time::Instant::now();
    let refused = account.admit(AGENT, &model(), &ask(900, 100)).await.unwrap_err();
    assert_eq!(refused, shared::Denied::from(Refused::Held).into());
    assert_eq!(start.elapsed(), PATIENCE);
    let refused = account.admit(AGENT, &model(), &ask(901, 100)).await.unwrap_err();
    assert_eq!(refused, shared::Denied::from(Refused::Budget).into());
    assert_eq!((start.elapsed(), account.ledger().budget_refusals), (PATIENCE, 1));
}

#[tokio::test]
async fn above_the_rate_a_request_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("log")).unwrap();
    let slow = Purse {
        requests_per_minute: Some(1),
        ..purse()
    };
    let account = open(file, slow).unwrap();
    let first = account.admit(AGENT, &model(), &ask(1, 1)).await.unwrap();
    first.settle(bill(0), Fault::Nobody);
    // The next one may come in a minute, and nobody waits that long.
    assert_eq!(
        account.admit(AGENT, &model(), &ask(1, 1)).await.unwrap_err(),
        Denied::Rate
    );
}

#[tokio::test]
async fn a_line_that_cannot_be_written_admits_nobody() {
    // A pipe that nobody reads any more: the first line is still taken, no other.
    let (reader, writer) = io::pipe().unwrap();
    let account = open(File::from(std::os::fd::OwnedFd::from(writer)), purse()).unwrap();
    drop(reader);
    for _ in 0..2 {
        let refused = account.admit(AGENT, &model(), &ask(1, 1)).await.unwrap_err();
        assert_eq!(refused, shared::Denied::LogBroken.into());
    }
    assert_eq!(account.ledger().reserved, PicoUsd::ZERO);
}

/// One thing that happens to a call in the test below.
#[derive(Debug, Clone, Copy)]
enum Act {
    Reserve { input: u64 },
    Send { pick: usize },
    Name { pick: usize },
    Settle { pick: usize, part: u64 },
    Abort { pick: usize },
    Retry { pick: usize, billable: bool },
}

fn act() -> impl Strategy<Value = Act> {
    let pick = any::<usize>;
    prop_oneof![
        4 => (0..200_u64).prop_map(|input| Act::Reserve { input }),
        3 => pick().prop_map(|pick| Act::Send { pick }),
        2 => pick().prop_map(|pick| Act::Name { pick }),
        2 => (pick(), 0..=100_u64).prop_map(|(pick, part)| Act::Settle { pick, part }),
        2 => pick().prop_map(|pick| Act::Abort { pick }),
        1 => (pick(), any::<bool>()).prop_map(|(pick, billable)| Act::Retry { pick, billable }),
    ]
}

/// Calls on an account, and what the service has billed for each so far.
struct Calls {
    account: Arc<Account>,
    open: Vec<(Reservation, bool)>,
    /// The length of the log when a call was sent, and what it costs in the end: all of it unless it was settled.
    sent: BTreeMap<u64, (u64, u64)>,
}

impl Calls {
    fn act(&mut self, act: Act) {
        let at = |pick: usize, open: &[(Reservation, bool)]| (!open.is_empty()).then(|| pick % open.len());
        match act {
            Act::Reserve { input } => {
                let reserved = self.account.reserve(AGENT, &model(), &ask(input, 1));
                self.open.extend(reserved.ok().map(|held| (held, false)));
            }
            Act::Send { pick } => {
                if let Some(at) = at(pick, &self.open)
                    && !self.open[at].1
                {
                    self.open[at].0.mark_sent();
                    self.open[at].1 = true;
                    let (held, _) = &self.open[at];
                    let bytes = self.account.log().bytes();
                    self.sent.insert(held.id(), (bytes, held.amount().pico()));
                }
            }
            Act::Name { pick } => {
                if let Some(at) = at(pick, &self.open) {
                    self.open[at].0.answering("models.example.com", "gen-1");
                }
            }
            Act::Settle { pick, part } => {
                if let Some(at) = at(pick, &self.open) {
                    let (held, sent) = self.open.swap_remove(at);
                    let cost = if sent {
                        held.amount().pico() * part / 100
                    } else {
                        0
                    };
                    if let Some((_, billed)) = self.sent.get_mut(&held.id()) {
                        *billed = cost;
                    }
                    held.settle(bill(cost), Fault::Nobody);
                }
            }
            Act::Abort { pick } => {
                if let Some(at) = at(pick, &self.open) {
                    drop(self.open.swap_remove(at));
                }
            }
            Act::Retry { pick, billable } => {
                if let Some(at) = at(pick, &self.open) {
                    let (held, sent) = self.open.swap_remove(at);
                    self.open
                        .extend(held.again(billable || sent).ok().map(|held| (held, false)));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A crash keeps some prefix of the log, whole lines or not. Whatever it is, the account that is read from it has not
    /// overspent, and covers every call that was sent while no more than this prefix had been written.
    #[test]
    fn a_crash_at_any_line_of_the_log_covers_what_was_sent(acts in prop::collection::vec(act(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let mut calls = Calls { account: account(&folder), open: Vec::new(), sent: BTreeMap::new() };
        for act in acts {
            calls.act(act);
        }
        let log = std::fs::read(folder.path().join("log")).unwrap();
        let budget = calls.account.ledger().budget;
        let first = log.iter().position(|byte| *byte == b'\n').unwrap();
        let ends = (first..log.len()).filter(|at| log[*at] == b'\n');
        for end in ends.flat_map(|at| [at, at + 1, at + 2, at + 100]).filter(|end| (first + 1..=log.len()).contains(end)) {
            let mut book = Book::replay(&log::read(&log[..end]));
            book.close();
            let ledger = book.ledger();
            prop_assert!(ledger.cost_max() <= budget);
            let sent = calls.sent.values().filter(|(bytes, _)| *bytes <= end as u64);
            let billed: u64 = sent.map(|(_, billed)| billed).sum();
            prop_assert!(ledger.cost_max().pico() >= billed, "{} bytes: {:?}", end, ledger);
        }
        drop(calls.open);
    }
}
