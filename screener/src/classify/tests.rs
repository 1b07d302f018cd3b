use assay_core::{control::runner::Usage, limits::LimitSettings};
use assay_engine::{Death, Loss, LossKind};

use super::*;
use crate::row::{Memo, Outline, StepOutline};

fn row(phase: Phase, separate: bool) -> Row {
    let step = StepOutline {
        setup: true,
        setup_limit: std::time::Duration::ZERO,
        agent_limit: std::time::Duration::ZERO,
        collect_limit: std::time::Duration::ZERO,
        verify_limit: std::time::Duration::ZERO,
        separate,
        min_reward: std::collections::BTreeMap::new(),
    };
    let limits = LimitSettings::default().default;
    Row {
        contract: Contract::Command,
        defaults: limits.clone(),
        step: 0,
        phase,
        memo: Memo {
            outline: Some(Outline {
                health: true,
                health_limit: std::time::Duration::ZERO,
                services_limit: std::time::Duration::ZERO,
                limits,
                steps: vec![step],
                final_only: false,
            }),
            ..Memo::default()
        },
    }
}

fn end(outcome: Outcome, code: i32) -> End {
    End {
        outcome,
        exit_code: Some(code),
        signal: None,
        detail: Some("detail".to_owned()),
        wall_ms: 2_000,
        usage: Usage::default(),
        stdout_bytes: 0,
        stderr_bytes: 0,
    }
}

fn dead(code: i64, oom: bool) -> Death {
    Death {
        code,
        oom,
        log: "panicked at …".to_owned(),
    }
}

fn cause_of(row: &Row, evidence: &[Evidence]) -> Option<Cause> {
    match classify(row, evidence) {
        Finding::Closed(note) => Some(note.cause),
        Finding::Passed(note) => note.map(|note| note.cause),
        Finding::Nothing | Finding::Stored(_) => None,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_phase_has_its_causes() {
    let text = || "why".to_owned();
    let failed = || BuildOutcome::Failed { reason: text() };
    let table = [
        (Phase::Prepare, Evidence::Store(text()), Cause::StoreUnavailable),
        (
            Phase::Prepare,
            Evidence::WrongDigest(Part::Task),
            Cause::DigestMismatch,
        ),
        (
            Phase::Prepare,
            Evidence::Unusable(Part::Task, text()),
            Cause::TaskInvalid,
        ),
        (
            Phase::Prepare,
            Evidence::Unusable(Part::Agent, text()),
            Cause::AgentInvalid,
        ),
        (Phase::Prepare, Evidence::Build(failed()), Cause::ImageBuildFailed),
        (
            Phase::Prepare,
            Evidence::Build(BuildOutcome::TimedOut),
            Cause::ImageBuildFailed,
        ),
        (
            Phase::Prepare,
            Evidence::Engine(EngineFault::Build, text()),
            Cause::ImageUnavailable,
        ),
        (
            Phase::Prepare,
            Evidence::NothingToCarry(text()),
            Cause::SeparateNotPossible,
        ),
        (
            Phase::Prepare,
            Evidence::Engine(EngineFault::NoRoom, text()),
            Cause::NoRoom,
        ),
        (
            Phase::Start,
            Evidence::Engine(EngineFault::NoRoom, text()),
            Cause::NoRoom,
        ),
        (
            Phase::Start,
            Evidence::Engine(EngineFault::NoImage, text()),
            Cause::ImageUnavailable,
        ),
        (
            Phase::Start,
            Evidence::Engine(EngineFault::Other, text()),
            Cause::SandboxFailed,
        ),
        (Phase::Start, Evidence::Overdue, Cause::SandboxFailed),
        (
            Phase::Health,
            Evidence::Unhealthy(text()),
            Cause::HealthcheckFailed,
        ),
        (
            Phase::Setup,
            Evidence::Ended(Job::Install, end(Outcome::Exited, 1)),
            Cause::AgentSetupFailed,
        ),
        (
            Phase::Setup,
            Evidence::Ended(Job::Install, end(Outcome::Timeout, 0)),
            Cause::AgentSetupFailed,
        ),
        (
            Phase::Setup,
            Evidence::Ended(Job::StepSetup, end(Outcome::Exited, 1)),
            Cause::StepSetupFailed,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::Timeout, 0)),
            Cause::AgentTimeout,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::Exited, 1)),
            Cause::AgentFailed,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::PidLimit, 0)),
            Cause::AgentFailed,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::SpawnFailed, 0)),
            Cause::AgentFailed,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::DiskLimit, 0)),
            Cause::AgentOutOfDisk,
        ),
        (
            Phase::Verify,
            Evidence::Ended(Job::Verifier, end(Outcome::DiskLimit, 0)),
            Cause::VerifierOutOfDisk,
        ),
        (
            Phase::Collect,
            Evidence::Patch(PatchState::Unusable("agent.py: line 2".to_owned())),
            Cause::AgentInvalid,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::Oom, 0)),
            Cause::AgentOutOfMemory,
        ),
        (
            Phase::Agent,
            Evidence::Ended(Job::Agent, end(Outcome::ProxyLost, 0)),
            Cause::ProxyLost,
        ),
        (Phase::Agent, Evidence::NotSwitched(text()), Cause::FlipFailed),
        (Phase::Agent, Evidence::Silent(text()), Cause::SandboxLost),
        (
            Phase::Collect,
            Evidence::Patch(PatchState::Missing),
            Cause::NoPatch,
        ),
        (
            Phase::Collect,
            Evidence::Patch(PatchState::Invalid(text())),
            Cause::PatchInvalid,
        ),
        (
            Phase::Verify,
            Evidence::Ended(Job::Apply, end(Outcome::Exited, 1)),
            Cause::PatchInvalid,
        ),
        (
            Phase::Verify,
            Evidence::Ended(Job::Verifier, end(Outcome::Timeout, 0)),
            Cause::VerifierTimeout,
        ),
        (
            Phase::Verify,
            Evidence::Ended(Job::Verifier, end(Outcome::Oom, 0)),
            Cause::VerifierOutOfMemory,
        ),
        (Phase::Verify, Evidence::RewardMissing, Cause::RewardMissing),
        (
            Phase::Verify,
            Evidence::RewardInvalid(text()),
            Cause::RewardInvalid,
        ),
        (Phase::Verify, Evidence::Expired, Cause::SandboxLost),
        (Phase::Verify, Evidence::Bug(text()), Cause::Internal),
    ];
    for (phase, evidence, cause) in table {
        let shown = format!("{phase}: {evidence:?}");
        assert_eq!(cause_of(&row(phase, false), &[evidence]), Some(cause), "{shown}");
    }
}

fn lost(kind: LossKind) -> assay_engine::Evidence {
    assay_engine::Evidence {
        main: Some(dead(137, true)),
        proxy: Some(dead(137, false)),
        lost: Some(Loss {
            kind,
            message: "the node said so".to_owned(),
        }),
        ..Default::default()
    }
}

#[test]
fn a_dead_container_outweighs_how_the_agent_ended() {
    let ended = Evidence::Ended(Job::Agent, end(Outcome::Exited, 1));
    let ends = |init, proxy, main| assay_engine::Evidence {
        init,
        proxy,
        main,
        ..Default::default()
    };
    let with_service = |oom, proxy| assay_engine::Evidence {
        services: [("db".to_owned(), dead(137, oom))].into(),
        proxy,
        ..Default::default()
    };
    let (killed, crashed) = (Some(dead(137, false)), Some(dead(101, false)));
    let gone = assay_engine::Evidence {
        gone: true,
        ..Default::default()
    };
    let states = [
        (ends(None, crashed.clone(), None), Cause::ProxyLost),
        (ends(None, None, Some(dead(137, true))), Cause::AgentOutOfMemory),
        (ends(None, None, killed.clone()), Cause::SandboxLost),
        (ends(Some(dead(1, false)), None, None), Cause::SandboxLost),
        // A pod that went down: a runner outlives its proxy.
        (ends(None, killed.clone(), killed.clone()), Cause::SandboxLost),
        // The engine went down, and everything with it.
        (ends(killed.clone(), killed.clone(), killed), Cause::SandboxLost),
        (gone, Cause::SandboxLost),
        (with_service(true, None), Cause::ServiceFailed),
        // It went with the proxy.
        (with_service(false, crashed), Cause::ProxyLost),
        // Whatever the containers of a sandbox that was taken away ended with, they were ended.
        (lost(LossKind::Evicted), Cause::Evicted),
        (lost(LossKind::Preempted), Cause::Preempted),
        (lost(LossKind::NodeLost), Cause::NodeLost),
        (lost(LossKind::Removed), Cause::SandboxLost),
        (lost(LossKind::DiskFull), Cause::AgentOutOfDisk),
    ];
    for (state, cause) in states {
        let evidence = [ended.clone(), Evidence::Sandbox(state)];
        assert_eq!(cause_of(&row(Phase::Agent, false), &evidence), Some(cause));
    }
    let alive = Evidence::Sandbox(assay_engine::Evidence::default());
    assert_eq!(
        cause_of(&row(Phase::Agent, false), &[ended, alive]),
        Some(Cause::AgentFailed)
    );
}

/// The engine takes a sandbox away for its disk only some time after too much was written.
#[test]
fn a_disk_that_is_found_full_late_is_the_agents_unless_it_was_seen_to_have_room() {
    let full = || lost(LossKind::DiskFull);
    let cause = |separate, disk_clear, evidence| {
        let mut row = row(Phase::Verify, separate);
        row.memo.disk_clear = disk_clear;
        cause_of(&row, &[Evidence::Silent(String::new()), evidence])
    };
    let shared = |disk_clear| cause(false, disk_clear, Evidence::Sandbox(full()));
    assert_eq!(shared(false), Some(Cause::AgentOutOfDisk));
    assert_eq!(shared(true), Some(Cause::VerifierOutOfDisk));
    // Beside a verifier of its own nobody but the agent has written there.
    let agents = cause(true, false, Evidence::Sandbox(full()));
    assert_eq!(agents, Some(Cause::AgentOutOfDisk));
    let verifiers = cause(true, false, Evidence::VerifierSandbox(full()));
    assert_eq!(verifiers, Some(Cause::VerifierOutOfDisk));
    assert_eq!(
        cause_of(&row(Phase::Verify, false), &[Evidence::Overfull(String::new())]),
        Some(Cause::AgentOutOfDisk)
    );
}

#[test]
fn a_sandbox_that_is_killed_for_memory_is_whose_it_is() {
    let dead = || assay_engine::Evidence {
        main: Some(dead(137, true)),
        ..Default::default()
    };
    let cause = |separate, evidence| cause_of(&row(Phase::Verify, separate), &[evidence]);
    let shared = cause(false, Evidence::Sandbox(dead()));
    assert_eq!(shared, Some(Cause::VerifierOutOfMemory));
    assert_eq!(
        cause(true, Evidence::Sandbox(dead())),
        Some(Cause::AgentOutOfMemory)
    );
    assert_eq!(
        cause(true, Evidence::VerifierSandbox(dead())),
        Some(Cause::VerifierOutOfMemory)
    );
}

#[test]
fn the_account_tells_an_empty_purse_from_a_service_that_is_down() {
    let account = |budget_refusals, provider_failures, answers, failures_in_a_row| Evidence::Account {
        before: Ledger::default(),
        after: Ledger {
            budget_refusals,
            provider_failures,
            answers,
            failures_in_a_row,
            ..Ledger::default()
        },
    };
    let cause = |code, account| {
        let evidence = [Evidence::Ended(Job::Agent, end(Outcome::Exited, code)), account];
        cause_of(&row(Phase::Agent, false), &evidence)
    };
    assert_eq!(cause(0, account(1, 0, 9, 0)), Some(Cause::BudgetExhausted));
    assert_eq!(cause(1, account(1, 0, 9, 0)), Some(Cause::BudgetExhausted));
    assert_eq!(cause(1, account(0, 1, 9, 1)), Some(Cause::AgentFailed));
    assert_eq!(cause(0, account(0, 1, 9, 1)), None);
    // B10: down is down, whether the agent crashed, gave up politely or made something up.
    for code in [0, 1] {
        for down in [account(0, 1, 0, 1), account(0, 3, 9, 3), account(1, 9, 9, 0)] {
            assert_eq!(cause(code, down), Some(Cause::ProviderDown));
        }
    }
}

#[test]
fn a_verifier_whose_model_was_down_has_judged_nobody() {
    let account = |provider_failures| Evidence::Account {
        before: Ledger {
            provider_failures: 4,
            failures_in_a_row: 4,
            ..Ledger::default()
        },
        after: Ledger {
            provider_failures,
            failures_in_a_row: provider_failures,
            ..Ledger::default()
        },
    };
    let rewarded = Evidence::Rewarded([("reward".to_owned(), 0.0)].into());
    let cause = |account| {
        let ended = Evidence::Ended(Job::Verifier, end(Outcome::Exited, 0));
        cause_of(&row(Phase::Verify, true), &[ended, rewarded.clone(), account])
    };
    assert_eq!(cause(account(5)), Some(Cause::ProviderDown));
    assert_eq!(cause(account(4)), None, "that was the agent's");
}

#[test]
fn a_proxy_without_room_for_its_records_is_nobodys_fault_but_ours() {
    let refused = |before, after| {
        let ledger = |unrecorded| Ledger {
            unrecorded,
            budget_refusals: unrecorded,
            ..Ledger::default()
        };
        Evidence::Account {
            before: ledger(before),
            after: ledger(after),
        }
    };
    let ends = [
        (Phase::Setup, Job::Install),
        (Phase::Agent, Job::Agent),
        (Phase::Verify, Job::Verifier),
    ];
    for (phase, job) in ends {
        let cause = |outcome, account| {
            let evidence = [Evidence::Ended(job, end(outcome, 1)), account];
            cause_of(&row(phase, false), &evidence)
        };
        for outcome in [Outcome::Exited, Outcome::Timeout, Outcome::Oom] {
            assert_eq!(cause(outcome, refused(0, 1)), Some(Cause::ProxyOutOfDisk));
            assert_ne!(
                cause(outcome, refused(2, 2)),
                Some(Cause::ProxyOutOfDisk),
                "an earlier phase's"
            );
        }
        // Else filling the disk beside the proxy would be a way out of a bad score.
        let filled = cause(Outcome::DiskLimit, refused(0, 1));
        assert!(
            filled.is_some() && filled != Some(Cause::ProxyOutOfDisk),
            "{phase}"
        );
    }
    assert!(Cause::ProxyOutOfDisk.is_retried() && !Cause::ProxyOutOfDisk.is_graded());
}

#[test]
fn a_verifier_that_cannot_start_is_the_agents_fault_only_where_they_share() {
    let ended = [Evidence::Ended(Job::Verifier, end(Outcome::SpawnFailed, 0))];
    assert_eq!(
        cause_of(&row(Phase::Verify, false), &ended),
        Some(Cause::AgentBrokeSandbox)
    );
    assert_eq!(
        cause_of(&row(Phase::Verify, true), &ended),
        Some(Cause::TaskInvalid)
    );
    let nop = Row {
        contract: Contract::Nop,
        ..row(Phase::Verify, false)
    };
    assert_eq!(cause_of(&nop, &ended), Some(Cause::TaskInvalid));
}

#[test]
fn the_exit_code_of_the_tests_says_nothing() {
    for code in [0, 1, 127] {
        let evidence = [Evidence::Ended(Job::Verifier, end(Outcome::Exited, code))];
        assert_eq!(classify(&row(Phase::Verify, false), &evidence), Finding::Nothing);
    }
}
