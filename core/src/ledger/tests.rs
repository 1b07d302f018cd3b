use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{phase::EgressPhase, price::ModelSlug};

const AGENT: EgressPhase = EgressPhase::Agent;

fn book(budget: u64, max_parallel: u32) -> Book {
    let grant = Grant {
        budget: PicoUsd::from_pico(budget),
        max_requests: 1_000,
        max_tokens: 1_000_000,
        max_parallel,
    };
    Book::open([(AGENT, grant)].into(), "test".to_owned()).0
}

fn ask(input_cost: u64, output_tokens: u64) -> Ask {
    Ask {
        input_cost: PicoUsd::from_pico(input_cost),
        input_tokens: 1,
        output_price: PicoUsd::from_pico(10),
        output_tokens,
        least_output: 2,
    }
}

fn model() -> ModelSlug {
    "test/model".parse().unwrap()
}

fn bill(cost: u64) -> Bill {
    Bill {
        cost: PicoUsd::from_pico(cost),
        input_tokens: 1,
        output_tokens: 1,
        ..Bill::default()
    }
}

#[test]
fn output_is_clamped_to_half_of_what_is_left_so_that_others_find_something() {
    let mut book = book(1_000, 8);
    let amounts: Vec<u64> = (0..3)
        .map(|_| {
            book.reserve(AGENT, &model(), &ask(0, 500))
                .unwrap()
                .0
                .amount
                .pico()
        })
        .collect();
    assert_eq!(amounts, [500, 250, 120]);
}

#[test]
fn a_request_that_needs_more_than_half_gets_what_it_needs_and_no_more() {
    let mut book = book(1_000, 8);
    let (hold, _) = book.reserve(AGENT, &model(), &ask(600, 500)).unwrap();
    assert_eq!((hold.output_tokens, hold.amount.pico()), (2, 620));
    assert_eq!(book.reserve(AGENT, &model(), &ask(600, 500)), Err(Refused::Held));
    book.settle(hold.id, bill(620), Fault::Nobody).unwrap();
    assert_eq!(
        book.reserve(AGENT, &model(), &ask(600, 500)),
        Err(Refused::Budget)
    );
}

#[test]
fn of_two_hundred_requests_that_each_need_most_of_it_one_passes() {
    let mut book = book(1_000, 1_000);
    let passed = (0..200)
        .filter(|_| {
            let wants = Ask {
                least_output: 90,
                ..ask(0, 90)
            };
            book.reserve(AGENT, &model(), &wants).is_ok()
        })
        .count();
    assert_eq!(passed, 1);
}

#[test]
fn each_limit_refuses_by_its_own_name() {
    let mut narrow = book(1_000_000, 1);
    let (first, _) = narrow.reserve(AGENT, &model(), &ask(1, 10)).unwrap();
    assert_eq!(
        narrow.reserve(AGENT, &model(), &ask(1, 10)),
        Err(Refused::Parallel)
    );
    narrow.release(first.id, Fault::Nobody).unwrap();
    let long = Ask {
        input_tokens: 1_000_001,
        ..ask(1, 10)
    };
    assert_eq!(narrow.reserve(AGENT, &model(), &long), Err(Refused::Tokens));
    assert_eq!(
        narrow.reserve(EgressPhase::Verify, &model(), &ask(1, 10)),
        Err(Refused::NoPurse)
    );
    let grant = Grant {
        budget: PicoUsd::MAX,
        max_requests: 0,
        max_tokens: 10,
        max_parallel: 1,
    };
    let mut none = Book::open([(AGENT, grant)].into(), String::new()).0;
    assert_eq!(none.reserve(AGENT, &model(), &ask(1, 1)), Err(Refused::Requests));
}

#[test]
fn a_request_ends_once() {
    let mut book = book(1_000, 8);
    let (hold, _) = book.reserve(AGENT, &model(), &ask(100, 10)).unwrap();
    assert!(book.settle(hold.id, bill(50), Fault::Nobody).is_some());
    assert!(book.release(hold.id, Fault::Nobody).is_none());
    assert!(book.unresolve(hold.id, Fault::Nobody).is_none());
    assert_eq!(book.ledger().settled.pico(), 50);
}

#[test]
fn a_bill_above_its_bound_freezes_the_account() {
    let mut book = book(1_000, 8);
    let (hold, _) = book.reserve(AGENT, &model(), &ask(100, 10)).unwrap();
    book.settle(hold.id, bill(201), Fault::Nobody).unwrap();
    assert_eq!(book.reserve(AGENT, &model(), &ask(1, 10)), Err(Refused::Frozen));
}

#[test]
fn free_models_are_not_clamped_by_money() {
    let mut book = book(0, 8);
    let free = Ask {
        input_cost: PicoUsd::ZERO,
        output_price: PicoUsd::ZERO,
        ..ask(0, 500)
    };
    assert_eq!(book.reserve(AGENT, &model(), &free).unwrap().0.output_tokens, 500);
}

#[test]
fn a_request_that_is_tried_again_counts_once_and_its_failures_apart() {
    let mut book = book(1_000, 8);
    let mut end = |fault| {
        let (hold, _) = book.reserve(AGENT, &model(), &ask(0, 10)).unwrap();
        book.release(hold.id, fault).unwrap();
        book.ledger()
    };
    end(Fault::Retried);
    let ledger = end(Fault::Provider);
    assert_eq!((ledger.requests, ledger.provider_errors), (1, 2));
    assert_eq!((ledger.provider_failures, ledger.failures_in_a_row), (1, 1));
}

#[test]
fn an_unresolved_request_is_settled_once_its_bill_is_told() {
    let mut book = book(1_000, 8);
    let (named, _) = book.reserve(AGENT, &model(), &ask(0, 10)).unwrap();
    let (unnamed, _) = book.reserve(AGENT, &model(), &ask(0, 10)).unwrap();
    book.answering(named.id, "models.example.com", "gen-1").unwrap();
    assert!(
        book.reconcile(named.id, bill(1)).is_none(),
        "it is still under way"
    );
    book.close();
    let pending: Vec<_> = book
        .pending()
        .map(|(id, answer)| (id, answer.generation.clone()))
        .collect();
    assert_eq!(pending, [(named.id, "gen-1".to_owned())]);
    assert!(book.reconcile(unnamed.id, bill(1)).is_none());
    assert!(book.reconcile(named.id, bill(60)).is_some());
    assert!(book.reconcile(named.id, bill(60)).is_none());
    let ledger = book.ledger();
    assert_eq!((ledger.cost_min().pico(), ledger.cost_max().pico()), (60, 160));
}

#[test]
fn a_frozen_account_stays_frozen_after_a_replay() {
    let mut book = book(1_000, 8);
    let entries = [
        Entry::Open {
            grants: [(AGENT, book.account(AGENT).unwrap().grant())].into(),
            price_version: String::new(),
        },
        book.freeze(AGENT),
    ];
    for mut book in [book, Book::replay(&entries)] {
        assert_eq!(book.reserve(AGENT, &model(), &ask(1, 10)), Err(Refused::Frozen));
        assert!(book.ledger().was_provider_down());
    }
}

#[test]
fn a_damaged_line_of_the_log_is_not_passed_over() {
    let grants = [(AGENT, book(1_000, 8).account(AGENT).unwrap().grant())].into();
    let (mut book, open) = Book::open(grants, "test".to_owned());
    let mut entries = vec![open];
    let (settled, entry) = book.reserve(AGENT, &model(), &ask(50, 5)).unwrap();
    entries.push(entry);
    entries.push(book.settle(settled.id, bill(60), Fault::Nobody).unwrap());
    entries.push(book.reserve(AGENT, &model(), &ask(50, 5)).unwrap().1);
    let (mut chain, mut lines) = (log::Chain::default(), Vec::new());
    for entry in entries {
        let time = "2026-11-20T00:00:00Z".to_owned();
        let (text, next) = chain.seal(&log::Line { time, entry }).unwrap();
        chain = next;
        lines.extend(text.lines().map(str::to_owned));
    }
    let costs = |lines: &[String]| {
        let mut book = Book::replay(&log::read(lines.join("\n").as_bytes()));
        book.close();
        let ledger = book.ledger();
        (ledger.cost_min().pico(), ledger.cost_max().pico())
    };
    assert_eq!(costs(&lines), (60, 160));
    // The last line may be cut off by a crash, and one that was cut off by a full disk says so.
    let mut cut = lines.clone();
    cut[4].truncate(20);
    assert_eq!(costs(&cut), (60, 60));
    cut.insert(4, format!("{}{}", &lines[4][..20], log::CUT_OFF));
    assert_eq!(costs(&cut), (60, 60));
    for (at, settled) in [(1, 0), (2, 0), (3, 0), (4, 60)] {
        let mut damaged = lines.clone();
        damaged[at].replace_range(10..12, "\u{0}\u{0}");
        damaged.push(String::new());
        assert_eq!(costs(&damaged), (settled, 1_000), "line {at}");
        damaged[at].clear();
        assert_eq!(costs(&damaged), (settled, 1_000), "line {at} is empty");
    }
}

/// What can happen to a request, or to the proxy.
#[derive(Debug, Clone)]
enum Act {
    Reserve { input: u64, output: u64 },
    Answering { pick: usize },
    Settle { pick: usize, part: u64 },
    Release { pick: usize, fault: Fault },
    Unresolve { pick: usize },
    Reconcile { part: u64 },
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let fault = prop_oneof![Just(Fault::Nobody), Just(Fault::Provider), Just(Fault::Retried)];
    prop_oneof![
        6 => (0..500_u64, 0..200_u64).prop_map(|(input, output)| Act::Reserve { input, output }),
        3 => any::<usize>().prop_map(|pick| Act::Answering { pick }),
        3 => (any::<usize>(), 0..=100_u64).prop_map(|(pick, part)| Act::Settle { pick, part }),
        1 => (any::<usize>(), fault).prop_map(|(pick, fault)| Act::Release { pick, fault }),
        2 => any::<usize>().prop_map(|pick| Act::Unresolve { pick }),
        2 => (0..=100_u64).prop_map(|part| Act::Reconcile { part }),
        1 => Just(Act::Crash),
    ]
}

/// A book, its log, and the model service's own idea of what each request cost.
struct Run {
    book: Book,
    log: Vec<Entry>,
    open: Vec<Hold>,
    amounts: BTreeMap<u64, u64>,
    /// Billed for certain so far.
    billed: u64,
}

impl Run {
    fn of(budget: u64) -> Self {
        let grants = [(AGENT, book(budget, 8).account(AGENT).unwrap().grant())].into();
        let (book, first) = Book::open(grants, "test".to_owned());
        Self {
            book,
            log: vec![first],
            open: Vec::new(),
            amounts: BTreeMap::new(),
            billed: 0,
        }
    }

    fn take(&mut self, pick: usize) -> Option<Hold> {
        (!self.open.is_empty()).then(|| self.open.swap_remove(pick % self.open.len()))
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Reserve { input, output } => {
                if let Ok((hold, entry)) = self.book.reserve(AGENT, &model(), &ask(input, output)) {
                    assert!(hold.output_tokens <= output);
                    self.amounts.insert(hold.id, hold.amount.pico());
                    self.open.push(hold);
                    self.log.push(entry);
                }
            }
            Act::Answering { pick } => {
                let at = (!self.open.is_empty()).then(|| pick % self.open.len());
                let entry = at.and_then(|at| self.book.answering(self.open[at].id, "host", "gen"));
                self.log.extend(entry);
            }
            Act::Settle { pick, part } => {
                if let Some(hold) = self.take(pick) {
                    let cost = hold.amount.pico() * part / 100;
                    self.billed += cost;
                    self.log
                        .extend(self.book.settle(hold.id, bill(cost), Fault::Nobody));
                }
            }
            Act::Release { pick, fault } => {
                let held = self.take(pick);
                self.log
                    .extend(held.and_then(|hold| self.book.release(hold.id, fault)));
            }
            Act::Unresolve { pick } => {
                let held = self.take(pick);
                self.log
                    .extend(held.and_then(|hold| self.book.unresolve(hold.id, Fault::Nobody)));
            }
            Act::Reconcile { part } => {
                let first = self.book.pending().next().map(|(id, _)| id);
                if let Some(id) = first {
                    let cost = self.amounts[&id] * part / 100;
                    self.billed += cost;
                    self.log.extend(self.book.reconcile(id, bill(cost)));
                }
            }
            Act::Crash => {
                self.book = Book::replay(&self.log);
                self.log.extend(self.book.close());
                self.open.clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn no_interleaving_spends_more_than_was_granted(budget in 0..5_000_u64, acts in prop::collection::vec(act(), 0..80)) {
        let mut run = Run::of(budget);
        for act in &acts {
            run.act(act);
            let ledger = run.book.ledger();
            prop_assert!(ledger.cost_max().pico() <= budget);
            prop_assert_eq!(ledger.cost_min().pico(), run.billed);
            prop_assert_eq!(Book::replay(&run.log).ledger(), ledger);
            prop_assert_eq!(run.book.under_way(), run.open.len());
        }
    }

    #[test]
    fn entries_survive_json(id in any::<u64>(), amount in 0..1_000_000_u64, at in 0..3_usize) {
        let fault = [Fault::Nobody, Fault::Provider, Fault::Retried][at];
        for entry in [
            Entry::Reserve { id, phase: AGENT, model: model(), amount: PicoUsd::from_pico(amount), tokens: amount },
            Entry::Answering { id, service: "host".to_owned(), generation: "gen-1".to_owned() },
            Entry::Settle { id, bill: bill(amount), fault },
            Entry::Release { id, fault },
            Entry::Unresolved { id, fault },
            Entry::Reconcile { id, bill: bill(amount) },
            Entry::Freeze { phase: AGENT },
        ] {
            let json = serde_json::to_string(&entry).unwrap();
            prop_assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
        }
    }
}
