use std::{collections::BTreeSet, time::Duration};

use assay_core::{
    control::{
        proxy::Ledger,
        runner::{End, Outcome, Usage},
    },
    limits::LimitSettings,
};
use assay_engine::{BuildOutcome, Death};
use proptest::prelude::*;

use super::*;
use crate::{
    evidence::{EngineFault, Job, Part, PatchState},
    row::{Memo, Outline, StepOutline},
};

fn outline(steps: usize, health: bool, setup: bool, separate: bool) -> Outline {
    let step = StepOutline {
        setup,
        setup_limit: Duration::from_secs(10),
        agent_limit: Duration::from_secs(20),
        collect_limit: Duration::from_secs(30),
        verify_limit: Duration::from_secs(40),
        separate,
        min_reward: BTreeMap::new(),
    };
    Outline {
        health,
        health_limit: Duration::from_secs(5),
        services_limit: Duration::ZERO,
        limits: LimitSettings::default().default,
        steps: vec![step; steps],
        final_only: false,
    }
}

fn fresh(contract: Contract) -> Row {
    Row {
        contract,
        defaults: LimitSettings::default().default,
        step: 0,
        phase: Phase::Prepare,
        memo: Memo::default(),
    }
}

fn end(outcome: Outcome, code: i32) -> End {
    End {
        outcome,
        exit_code: (outcome == Outcome::Exited).then_some(code),
        signal: None,
        detail: None,
        wall_ms: 1,
        usage: Usage::default(),
        stdout_bytes: 0,
        stderr_bytes: 0,
    }
}

fn reward(value: f64) -> Evidence {
    Evidence::Rewarded(BTreeMap::from([("reward".to_owned(), value)]))
}

/// The evidence of a phase in which all goes well.
fn good(row: &Row, shape: &Outline) -> Vec<Evidence> {
    match row.phase {
        Phase::Prepare => vec![Evidence::Prepared(shape.clone())],
        Phase::Start => vec![Evidence::Ready],
        Phase::Health => vec![Evidence::Healthy],
        Phase::Setup => vec![
            Evidence::Ended(Job::Install, end(Outcome::Exited, 0)),
            Evidence::SetUp,
        ],
        Phase::Agent => vec![Evidence::Ended(Job::Agent, end(Outcome::Exited, 0))],
        Phase::Collect => vec![Evidence::Collected],
        Phase::Verify => vec![
            Evidence::Ended(Job::Verifier, end(Outcome::Exited, 1)),
            reward(1.0),
        ],
        Phase::Report => vec![Evidence::Stored],
    }
}

/// Walks an attempt to its report; `observe` gives the evidence of each phase.
fn walk(mut row: Row, mut observe: impl FnMut(&Row) -> Vec<Evidence>) -> (Vec<(u32, Phase)>, Closing) {
    let mut visited = Vec::new();
    let mut evidence = Vec::new();
    for _ in 0..1000 {
        let commands = next(&row, &evidence);
        assert!(!commands.is_empty(), "{row:?} {evidence:?}");
        evidence.clear();
        let last = commands.len() - 1;
        for (index, command) in commands.into_iter().enumerate() {
            match command {
                Command::Save(saved) => row = *saved,
                Command::Run { step, phase, limit } => {
                    assert_eq!((step, phase), (row.step, row.phase));
                    assert!(!limit.is_zero(), "{phase} has no limit");
                    assert_eq!(index, last, "a phase is the last thing that is asked for");
                    visited.push((step, phase));
                    evidence = observe(&row);
                }
                Command::Report(closing) => {
                    assert_eq!(row.phase, Phase::Report, "reported without the last phase");
                    assert_eq!(index, last);
                    return (visited, closing);
                }
            }
        }
    }
    panic!("no report after a thousand steps: {row:?}");
}

fn phases(visited: &[(u32, Phase)]) -> Vec<String> {
    visited
        .iter()
        .map(|(step, phase)| format!("{step}/{phase}"))
        .collect()
}

#[test]
fn the_simplest_run_visits_every_phase_that_has_work() {
    let shape = outline(1, false, false, false);
    let (visited, closing) = walk(fresh(Contract::Oracle), |row| good(row, &shape));
    assert_eq!(
        phases(&visited),
        [
            "0/prepare",
            "0/start",
            "0/agent",
            "0/collect",
            "0/verify",
            "0/report"
        ]
    );
    assert_eq!((closing.cause, closing.score), (Cause::Completed, Some(1.0)));
}

#[test]
fn steps_go_round_through_setup_to_verify() {
    let shape = outline(2, true, true, false);
    let mut rewards = [1.0, 0.5].into_iter();
    let (visited, closing) = walk(fresh(Contract::Command), |row| match row.phase {
        Phase::Verify => vec![reward(rewards.next().unwrap())],
        _ => good(row, &shape),
    });
    assert_eq!(
        phases(&visited),
        [
            "0/prepare",
            "0/start",
            "0/health",
            "0/setup",
            "0/agent",
            "0/collect",
            "0/verify",
            "1/setup",
            "1/agent",
            "1/collect",
            "1/verify",
            "1/report"
        ]
    );
    assert_eq!((closing.cause, closing.score), (Cause::Completed, Some(0.75)));
}

#[test]
fn a_step_below_its_minimum_ends_the_task() {
    let mut shape = outline(3, false, false, false);
    shape.steps[0].min_reward = BTreeMap::from([("reward".to_owned(), 0.9)]);
    let (visited, closing) = walk(fresh(Contract::Command), |row| match row.phase {
        Phase::Verify => vec![reward(0.5)],
        _ => good(row, &shape),
    });
    assert_eq!(phases(&visited).last().unwrap(), "0/report");
    assert_eq!((closing.cause, closing.score), (Cause::Completed, Some(0.5)));
}

#[test]
fn only_the_last_step_counts_where_the_task_says_so() {
    let mut shape = outline(2, false, false, false);
    shape.final_only = true;
    let mut rewards = [1.0, 0.25].into_iter();
    let (_, closing) = walk(fresh(Contract::Command), |row| match row.phase {
        Phase::Verify => vec![reward(rewards.next().unwrap())],
        _ => good(row, &shape),
    });
    assert_eq!(closing.score, Some(0.25));
}

#[test]
fn an_agent_at_fault_is_still_verified() {
    for (outcome, code, cause) in [
        (Outcome::Timeout, 0, Cause::AgentTimeout),
        (Outcome::Exited, 3, Cause::AgentFailed),
        (Outcome::Oom, 0, Cause::AgentOutOfMemory),
    ] {
        let shape = outline(1, false, false, false);
        let (visited, closing) = walk(fresh(Contract::Command), |row| match row.phase {
            Phase::Agent => vec![Evidence::Ended(Job::Agent, end(outcome, code))],
            Phase::Verify => vec![reward(0.5)],
            _ => good(row, &shape),
        });
        assert!(visited.contains(&(0, Phase::Verify)), "{cause}");
        assert_eq!((closing.cause, closing.score), (cause, Some(0.5)));
    }
}

#[test]
fn a_patch_agent_without_a_diff_scores_zero_unverified() {
    let shape = outline(1, false, false, true);
    let (visited, closing) = walk(fresh(Contract::Patch), |row| match row.phase {
        Phase::Collect => vec![Evidence::Patch(PatchState::Missing), Evidence::Collected],
        _ => good(row, &shape),
    });
    assert!(!visited.contains(&(0, Phase::Verify)));
    assert_eq!((closing.cause, closing.score), (Cause::NoPatch, Some(0.0)));
}

#[test]
fn a_later_step_that_scores_nothing_halves_the_mean() {
    let shape = outline(2, false, true, false);
    let (_, closing) = walk(fresh(Contract::Command), |row| match (row.phase, row.step) {
        (Phase::Agent, 1) => vec![Evidence::Sandbox(oom())],
        _ => good(row, &shape),
    });
    assert_eq!(
        (closing.cause, closing.score),
        (Cause::AgentOutOfMemory, Some(0.5))
    );
}

#[test]
fn the_shape_of_a_task_is_told_once() {
    let shape = outline(1, true, false, false);
    let (visited, closing) = walk(fresh(Contract::Command), |row| {
        let mut evidence = good(row, &shape);
        if row.phase == Phase::Health {
            evidence.push(Evidence::Prepared(outline(0, false, false, false)));
        }
        evidence
    });
    assert!(visited.contains(&(0, Phase::Verify)), "{visited:?}");
    assert_eq!((closing.cause, closing.score), (Cause::Completed, Some(1.0)));
}

#[test]
fn a_result_that_cannot_be_stored_is_taken_back() {
    let shape = outline(1, false, false, false);
    let (_, closing) = walk(fresh(Contract::Nop), |row| match row.phase {
        Phase::Report => vec![Evidence::Store("away".to_owned())],
        _ => good(row, &shape),
    });
    assert_eq!((closing.cause, closing.score), (Cause::StoreUnavailable, None));
}

#[test]
fn an_adopted_row_runs_its_phase_again() {
    let mut row = fresh(Contract::Command);
    row.phase = Phase::Agent;
    row.memo.outline = Some(outline(1, false, false, false));
    assert!(matches!(
        next(&row, &[])[..],
        [Command::Run {
            phase: Phase::Agent,
            ..
        }]
    ));
}

#[test]
fn cancelling_ends_every_phase_but_the_last() {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Report) {
        let mut row = fresh(Contract::Command);
        row.phase = phase;
        row.memo.outline = Some(outline(1, true, true, false));
        let (_, closing) = {
            let commands = next(&row, &[Evidence::Cancelled]);
            let [
                Command::Save(saved),
                Command::Run {
                    phase: Phase::Report, ..
                },
            ] = &commands[..]
            else {
                panic!("{phase}: {commands:?}");
            };
            walk(saved.as_ref().clone(), |_| vec![Evidence::Stored])
        };
        assert_eq!((closing.cause, closing.score), (Cause::Cancelled, None));
    }
}

fn oom() -> assay_engine::Evidence {
    assay_engine::Evidence {
        main: Some(Death {
            code: 137,
            oom: true,
            log: String::new(),
        }),
        ..Default::default()
    }
}

fn any_end() -> impl Strategy<Value = End> {
    let outcomes = prop_oneof![
        Just(Outcome::Exited),
        Just(Outcome::Signalled),
        Just(Outcome::Timeout),
        Just(Outcome::Oom),
        Just(Outcome::PidLimit),
        Just(Outcome::DiskLimit),
        Just(Outcome::Killed),
        Just(Outcome::SpawnFailed),
        Just(Outcome::ProxyLost),
    ];
    (outcomes, 0..2).prop_map(|(outcome, code)| end(outcome, code))
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let job = prop_oneof![
        Just(Job::Install),
        Just(Job::StepSetup),
        Just(Job::Agent),
        Just(Job::Apply),
        Just(Job::Verifier)
    ];
    let shape = (0usize..4, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(steps, health, setup, separate)| Evidence::Prepared(outline(steps, health, setup, separate)),
    );
    let account =
        (0u64..3, 0u64..3, 0u64..3, 0u64..2).prop_map(|(failures, refusals, answers, unrecorded)| {
            Evidence::Account {
                before: Ledger::default(),
                after: Ledger {
                    provider_failures: failures,
                    budget_refusals: refusals,
                    unrecorded,
                    answers,
                    ..Ledger::default()
                },
            }
        });
    let said = || Just("said".to_owned());
    prop_oneof![
        4 => shape,
        4 => (job, any_end()).prop_map(|(job, end)| Evidence::Ended(job, end)),
        2 => account,
        2 => (0u8..2).prop_map(|value| reward(f64::from(value))),
        6 => prop_oneof![
            Just(Evidence::Ready),
            Just(Evidence::Healthy),
            Just(Evidence::SetUp),
            Just(Evidence::Collected),
            Just(Evidence::Stored),
            Just(Evidence::Patch(PatchState::Good)),
        ],
        1 => prop_oneof![
            Just(Evidence::Cancelled),
            Just(Evidence::Expired),
            Just(Evidence::Overdue),
            Just(Evidence::WrongDigest(Part::Agent)),
            Just(Evidence::RewardMissing),
            Just(Evidence::Patch(PatchState::Missing)),
            Just(Evidence::Build(BuildOutcome::TimedOut)),
            Just(Evidence::Sandbox(oom())),
            Just(Evidence::Sandbox(assay_engine::Evidence::default())),
        ],
        1 => prop_oneof![
            said().prop_map(Evidence::Store),
            said().prop_map(|text| Evidence::Unusable(Part::Task, text)),
            said().prop_map(Evidence::NothingToCarry),
            said().prop_map(|text| Evidence::Engine(EngineFault::Other, text)),
            said().prop_map(Evidence::Unhealthy),
            said().prop_map(Evidence::Silent),
            said().prop_map(Evidence::NotSwitched),
            said().prop_map(Evidence::RewardInvalid),
            said().prop_map(Evidence::Bug),
        ],
    ]
}

proptest! {
    #[test]
    fn any_evidence_leads_to_one_report_in_a_legal_order(
        story in prop::collection::vec(prop::collection::vec(any_evidence(), 0..4), 0..40),
    ) {
        let mut story = story.into_iter();
        let shape = outline(1, false, false, false);
        // When the story is over, all goes well: the walk must still come to an end.
        let (visited, closing) = walk(fresh(Contract::Command), |row| story.next().unwrap_or_else(|| good(row, &shape)));
        let reports = visited.iter().filter(|(_, phase)| *phase == Phase::Report).count();
        prop_assert!(reports >= 1);
        prop_assert!(visited.windows(2).all(|pair| pair[0] <= pair[1]), "{visited:?}");
        let seen: BTreeSet<_> = visited.iter().collect();
        if seen.iter().any(|(_, phase)| *phase == Phase::Verify) {
            prop_assert!(seen.iter().any(|(_, phase)| *phase == Phase::Start));
        }
        prop_assert_eq!(closing.score.is_some(), closing.cause.is_graded());
    }
}
