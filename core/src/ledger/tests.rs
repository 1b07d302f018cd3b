use proptest::prelude::*;

use super::*;

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
        named: true,
    }
}

fn model() -> ModelSlug {
    "test/model".parse().unwrap()
}

fn bill(cost: u64) -> Bill {
    Bill {
        cost: PicoUsd::from_pico(cost),
        input_tokens: 1,
        cached_tokens: 0,
        output_tokens: 1,
    }
}

#[test]
fn output_is_clamped_to_what_is_left() {
    let mut book = book(1_000, 8);
    let (hold, _) = book.reserve(AGENT, &model(), &ask(100, 500)).unwrap();
    assert_eq!((hold.output_tokens, hold.amount.pico()), (90, 1_000));
    assert_eq!(book.reserve(AGENT, &model(), &ask(100, 500)), Err(Refused::Held));
    book.settle(hold.id, bill(1_000)).unwrap();
    assert_eq!(
        book.reserve(AGENT, &model(), &ask(100, 500)),
        Err(Refused::Budget)
    );
}

#[test]
fn an_unnamed_output_holds_half_of_what_is_left() {
    let mut book = book(1_000, 8);
    let unnamed = Ask {
        named: false,
        ..ask(0, 500)
    };
    let amounts: Vec<u64> = (0..3)
        .map(|_| book.reserve(AGENT, &model(), &unnamed).unwrap().0.amount.pico())
        .collect();
    assert_eq!(amounts, [500, 250, 120]);
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
    narrow.release(first.id, false).unwrap();
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
    assert!(book.settle(hold.id, bill(50)).is_some());
    assert!(book.release(hold.id, false).is_none());
    assert!(book.unresolve(hold.id, false).is_none());
    assert_eq!(book.ledger().settled.pico(), 50);
}

#[test]
fn a_bill_above_its_bound_freezes_the_account() {
    let mut book = book(1_000, 8);
    let (hold, _) = book.reserve(AGENT, &model(), &ask(100, 10)).unwrap();
    book.settle(hold.id, bill(201)).unwrap();
    assert_eq!(book.reserve(AGENT, &model(), &ask(1, 10)), Err(Refused::Frozen));
}

#[test]
fn free_models_are_not_clamped_by_money() {
    let mut book = book(0, 8);
    let free = Ask {
        input_cost: PicoUsd::ZERO,
        output_price: PicoUsd::ZERO,
        named: false,
        ..ask(0, 500)
    };
    assert_eq!(book.reserve(AGENT, &model(), &free).unwrap().0.output_tokens, 500);
}

#[derive(Debug, Clone)]
enum Act {
    Reserve { input: u64, output: u64, named: bool },
    Settle { pick: usize, part: u64 },
    Release { pick: usize },
    Unresolve { pick: usize },
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..500_u64, 0..200_u64, any::<bool>())
            .prop_map(|(input, output, named)| Act::Reserve { input, output, named }),
        2 => (any::<usize>(), 0..=100_u64).prop_map(|(pick, part)| Act::Settle { pick, part }),
        1 => any::<usize>().prop_map(|pick| Act::Release { pick }),
        1 => any::<usize>().prop_map(|pick| Act::Unresolve { pick }),
        1 => Just(Act::Crash),
    ]
}

proptest! {
    #[test]
    fn no_interleaving_spends_more_than_was_granted(budget in 0..5_000_u64, acts in prop::collection::vec(act(), 0..80)) {
        let mut book = book(budget, 8);
        let mut log = vec![Entry::Open {
            grants: [(AGENT, book.account(AGENT).unwrap().grant())].into(),
            price_version: "test".to_owned(),
        }];
        let mut open: Vec<Hold> = Vec::new();
        for act in acts {
            let held = |pick: usize, open: &mut Vec<Hold>| {
                (!open.is_empty()).then(|| open.swap_remove(pick % open.len()))
            };
            match act {
                Act::Reserve { input, output, named } => {
                    let wanted = Ask { named, ..ask(input, output) };
                    if let Ok((hold, entry)) = book.reserve(AGENT, &model(), &wanted) {
                        prop_assert!(hold.output_tokens <= output);
                        open.push(hold);
                        log.push(entry);
                    }
                }
                Act::Settle { pick, part } => {
                    if let Some(hold) = held(pick, &mut open) {
                        log.extend(book.settle(hold.id, bill(hold.amount.pico() * part / 100)));
                    }
                }
                Act::Release { pick } => {
                    log.extend(held(pick, &mut open).and_then(|hold| book.release(hold.id, true)));
                }
                Act::Unresolve { pick } => {
                    log.extend(held(pick, &mut open).and_then(|hold| book.unresolve(hold.id, false)));
                }
                Act::Crash => {
                    book = Book::replay(&log);
                    log.extend(book.close());
                    open.clear();
                }
            }
            let ledger = book.ledger();
            prop_assert!(ledger.cost_max().pico() <= budget);
            prop_assert_eq!(Book::replay(&log).ledger(), ledger);
            prop_assert_eq!(book.under_way(), open.len());
        }
    }

    #[test]
    fn entries_survive_json(id in any::<u64>(), amount in 0..1_000_000_u64, flag in any::<bool>()) {
        for entry in [
            Entry::Reserve { id, phase: AGENT, model: model(), amount: PicoUsd::from_pico(amount), tokens: amount },
            Entry::Settle { id, bill: bill(amount) },
            Entry::Release { id, provider_error: flag },
            Entry::Unresolved { id, provider_error: flag },
        ] {
            let json = serde_json::to_string(&entry).unwrap();
            prop_assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
        }
    }
}
