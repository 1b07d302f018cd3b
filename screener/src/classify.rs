//! Who is at fault: from observations of a phase to a cause. Pure, and never on the workload's word.
//!
//! What counts is the exit state told by the runner, the container state told by the engine and the account told by
//! the proxy. A dead container outweighs everything that was said before it died.

use assay_core::{
    agent::Contract,
    cause::Cause,
    control::{
        proxy::Ledger,
        runner::{End, Outcome},
    },
    phase::Phase,
};
use assay_engine::{BuildOutcome, LossKind};

use crate::{
    evidence::{EngineFault, Evidence, Job, Part, PatchState},
    row::{Note, Row},
};

/// What the evidence of a phase says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The phase has not ended.
    Nothing,
    /// The phase ended and the attempt goes on; a fault of the agent is remembered.
    Passed(Option<Note>),
    /// The attempt ends here.
    Closed(Note),
    /// The last phase ended; a note replaces the verdict.
    Stored(Option<Note>),
}

/// What the evidence says about the phase of the row.
pub fn classify(row: &Row, evidence: &[Evidence]) -> Finding {
    if row.phase == Phase::Report {
        return last_phase(row, evidence);
    }
    if evidence.contains(&Evidence::Cancelled) {
        return closed(Cause::Cancelled, "somebody cancelled the run");
    }
    if let Some(note) = broken_sandbox(row, evidence) {
        return Finding::Closed(note);
    }
    if let Some(note) = unrecorded(evidence) {
        return Finding::Closed(note);
    }
    evidence
        .iter()
        .find_map(|item| decisive(row, item, evidence))
        .unwrap_or(Finding::Nothing)
}

/// A proxy whose disk is full refuses what it would have forwarded. Whatever was made of that says nothing about who made
/// it, unless they were stopped for filling a disk themselves: it may have been the same one.
fn unrecorded(evidence: &[Evidence]) -> Option<Note> {
    let filled =
        |item: &Evidence| matches!(item, Evidence::Ended(_, end) if end.outcome == Outcome::DiskLimit);
    let (before, after) = account(evidence)?;
    let refused = after.since(before).unrecorded;
    let words = format!("the proxy could not write its records, and refused {refused} times for that");
    (refused > 0 && !evidence.iter().any(filled)).then(|| note(Cause::ProxyOutOfDisk, &words))
}

/// The account before and after the phase.
fn account(evidence: &[Evidence]) -> Option<(&Ledger, &Ledger)> {
    evidence.iter().find_map(|item| {
        if let Evidence::Account { before, after } = item {
            Some((before, after))
        } else {
            None
        }
    })
}

/// In the last phase everything ends it; only a graded result that could not be stored is taken back.
fn last_phase(row: &Row, evidence: &[Evidence]) -> Finding {
    if evidence.is_empty() {
        return Finding::Nothing;
    }
    let graded = row
        .memo
        .closing
        .as_ref()
        .is_some_and(|closing| closing.cause.is_graded());
    let fault = evidence.iter().find_map(|item| {
        let Evidence::Store(message) = item else {
            return None;
        };
        graded.then(|| note(Cause::StoreUnavailable, message))
    });
    Finding::Stored(fault)
}

/// A sandbox that is gone or has a dead part ends the attempt, whatever else was seen.
fn broken_sandbox(row: &Row, evidence: &[Evidence]) -> Option<Note> {
    let (state, verifiers) = evidence.iter().find_map(|item| {
        if let Evidence::Sandbox(state) = item {
            Some((state, false))
        } else if let Evidence::VerifierSandbox(state) = item {
            Some((state, true))
        } else {
            None
        }
    })?;
    let agents = !verifiers && row.step_outline().is_some_and(|step| step.separate);
    if let Some(loss) = &state.lost {
        let words = format!("the sandbox was {}: {}", loss.kind.as_str(), loss.message);
        // Where both wrote to it and nobody knows how much was the agent's, filling it late is no way out.
        let agents = agents || !verifiers && !row.memo.disk_clear;
        let cause = match (loss.kind == LossKind::DiskFull, row.phase) {
            (true, Phase::Verify) if agents => Cause::AgentOutOfDisk,
            (true, Phase::Verify) => Cause::VerifierOutOfDisk,
            (true, Phase::Setup) => Cause::AgentSetupFailed,
            (true, Phase::Agent | Phase::Collect) => Cause::AgentOutOfDisk,
            _ => taken_away(loss.kind),
        };
        return Some(note(cause, &words));
    }
    if let Some(death) = &state.main
        && death.oom
    {
        let cause = match row.phase {
            Phase::Verify if !agents => Cause::VerifierOutOfMemory,
            Phase::Setup => Cause::AgentSetupFailed,
            Phase::Agent | Phase::Collect | Phase::Verify => Cause::AgentOutOfMemory,
            Phase::Prepare | Phase::Start | Phase::Health | Phase::Report => Cause::SandboxFailed,
        };
        return Some(note(cause, "the whole sandbox was killed for memory"));
    }
    // Where main or the holder of the network is dead too, the pod, the machine or its engine went down, and the proxy with
    // it: a runner outlives its proxy.
    let alone = state.init.is_none() && state.main.is_none();
    if let Some(death) = state.proxy.as_ref().filter(|_| alone) {
        return Some(note(
            Cause::ProxyLost,
            &format!("the proxy ended with code {}", death.code),
        ));
    }
    if let Some(death) = state.init.as_ref().or(state.main.as_ref()) {
        return Some(note(
            Cause::SandboxLost,
            &format!("the sandbox ended with code {}", death.code),
        ));
    }
    if let Some((name, death)) = state.services.iter().find(|(_, death)| death.code != 0) {
        let memory = if death.oom { ", killed for memory" } else { "" };
        let words = format!(
            "the container of service {name} ended with code {}{memory}: {}",
            death.code, death.log
        );
        return Some(note(Cause::ServiceFailed, &words));
    }
    state
        .gone
        .then(|| note(Cause::SandboxLost, "the sandbox does not exist any more"))
}

/// Each way in which a cluster takes a sandbox away for its own sake.
fn taken_away(kind: LossKind) -> Cause {
    match kind {
        LossKind::Evicted => Cause::Evicted,
        LossKind::Preempted => Cause::Preempted,
        LossKind::NodeLost => Cause::NodeLost,
        LossKind::DiskFull | LossKind::Rejected | LossKind::Deadline | LossKind::Removed => {
            Cause::SandboxLost
        }
    }
}

/// What one observation says by itself; `None` when it decides nothing.
fn decisive(row: &Row, item: &Evidence, all: &[Evidence]) -> Option<Finding> {
    Some(match item {
        Evidence::Cancelled => closed(Cause::Cancelled, "somebody cancelled the run"),
        Evidence::Expired | Evidence::Overdue => overdue(row),
        Evidence::Store(message) => closed(Cause::StoreUnavailable, message),
        Evidence::WrongDigest(part) => closed(
            Cause::DigestMismatch,
            &format!("the content of the {} does not have its digest", part_name(*part)),
        ),
        Evidence::Unusable(Part::Task, message) => closed(Cause::TaskInvalid, message),
        Evidence::Unusable(Part::Agent, message) | Evidence::Patch(PatchState::Unusable(message)) => {
            closed(Cause::AgentInvalid, message)
        }
        Evidence::NothingToCarry(message) => closed(Cause::SeparateNotPossible, message),
        Evidence::TooMuchToCarry(message) => closed(Cause::ArtifactsTooBig, message),
        Evidence::Overfull(message) => closed(Cause::AgentOutOfDisk, message),
        Evidence::Build(BuildOutcome::Built { .. })
        | Evidence::Account { .. }
        | Evidence::Sandbox(_)
        | Evidence::VerifierSandbox(_)
        | Evidence::Patch(PatchState::Good)
        | Evidence::Stored => return None,
        Evidence::Build(BuildOutcome::Failed { reason }) => closed(Cause::ImageBuildFailed, reason),
        Evidence::Build(BuildOutcome::TimedOut) => {
            closed(Cause::ImageBuildFailed, "the build ran past its time")
        }
        Evidence::Engine(EngineFault::NoImage | EngineFault::Build, message) => {
            closed(Cause::ImageUnavailable, message)
        }
        // What the agent did before would be lost with the attempt, so that one counts.
        Evidence::Engine(EngineFault::NoRoom, message)
            if matches!(row.phase, Phase::Prepare | Phase::Start) =>
        {
            closed(Cause::NoRoom, message)
        }
        Evidence::Engine(EngineFault::NoRoom | EngineFault::Other, message) => {
            closed(Cause::SandboxFailed, message)
        }
        Evidence::ServiceFailed(message) => closed(Cause::ServiceFailed, message),
        Evidence::Unhealthy(message) => closed(Cause::HealthcheckFailed, message),
        Evidence::Silent(message) => closed(Cause::SandboxLost, message),
        Evidence::NotSwitched(message) => closed(Cause::FlipFailed, message),
        Evidence::Planted(message) => closed(Cause::AgentBrokeSandbox, message),
        Evidence::RewardMissing => closed(Cause::RewardMissing, &no_reward(all)),
        Evidence::RewardInvalid(message) => closed(Cause::RewardInvalid, message),
        Evidence::Bug(message) => closed(Cause::Internal, message),
        Evidence::Patch(PatchState::Missing) => closed(Cause::NoPatch, &no_diff(row)),
        Evidence::Patch(PatchState::Invalid(message)) => closed(Cause::PatchInvalid, message),
        Evidence::Ended(job, end) => return ended(row, *job, end, all),
        Evidence::Prepared(outline) if outline.steps.is_empty() => {
            closed(Cause::Internal, "a task without a step")
        }
        Evidence::Prepared(_) => return passes(row, Phase::Prepare),
        Evidence::Ready => return passes(row, Phase::Start),
        Evidence::Healthy => return passes(row, Phase::Health),
        Evidence::SetUp => return passes(row, Phase::Setup),
        Evidence::Collected => return passes(row, Phase::Collect),
        Evidence::Rewarded(_) => return passes(row, Phase::Verify),
    })
}

fn passes(row: &Row, phase: Phase) -> Option<Finding> {
    (row.phase == phase).then_some(Finding::Passed(None))
}

/// The phase took longer than it may and than its own deadline inside the sandbox should have let it.
fn overdue(row: &Row) -> Finding {
    let message = format!("{} was still under way at its deadline", row.phase);
    let cause = match row.phase {
        Phase::Prepare => Cause::ImageUnavailable,
        Phase::Start => Cause::SandboxFailed,
        Phase::Health => Cause::HealthcheckFailed,
        Phase::Setup | Phase::Agent | Phase::Collect | Phase::Verify => Cause::SandboxLost,
        Phase::Report => Cause::StoreUnavailable,
    };
    closed(cause, &message)
}

fn ended(row: &Row, job: Job, end: &End, all: &[Evidence]) -> Option<Finding> {
    let at_home = match job {
        Job::Install | Job::StepSetup => Phase::Setup,
        Job::Agent => Phase::Agent,
        Job::Apply | Job::Verifier => Phase::Verify,
    };
    if row.phase != at_home {
        return None;
    }
    if end.outcome == Outcome::ProxyLost {
        return Some(closed(Cause::ProxyLost, "the runner lost its proxy"));
    }
    let told = told(end);
    match job {
        Job::Install if !succeeded(end) => Some(closed(
            Cause::AgentSetupFailed,
            &format!("the install command {told}"),
        )),
        Job::StepSetup if !succeeded(end) => {
            Some(closed(Cause::StepSetupFailed, &format!("setup.sh {told}")))
        }
        Job::Apply if !succeeded(end) => Some(closed(
            Cause::PatchInvalid,
            &format!("the diff does not apply to a clean tree: git {told}"),
        )),
        Job::Install | Job::StepSetup | Job::Apply => None,
        Job::Agent => Some(agent(row, end, all)),
        Job::Verifier => verifier(row, end, all),
    }
}

/// However the agent ended, what it left is verified, unless the model service was down.
fn agent(row: &Row, end: &End, all: &[Evidence]) -> Finding {
    let account = account(all);
    let told = told(end);
    // Whatever it made of that: an agent that gives up politely is no worse than one that crashes.
    if let Some(outage) = outage(all) {
        return closed(Cause::ProviderDown, &format!("{outage}; the agent {told}"));
    }
    let spent = account.is_some_and(|(before, after)| after.budget_refusals > before.budget_refusals);
    let cause = match end.outcome {
        Outcome::Oom => Some(Cause::AgentOutOfMemory),
        _ if spent => Some(Cause::BudgetExhausted),
        Outcome::Timeout => Some(Cause::AgentTimeout),
        Outcome::DiskLimit => Some(Cause::AgentOutOfDisk),
        Outcome::Exited if end.exit_code == Some(0) => None,
        Outcome::SpawnFailed if row.contract == Contract::Oracle => {
            return closed(Cause::TaskInvalid, &format!("the solution {told}"));
        }
        Outcome::SpawnFailed if row.contract == Contract::Patch && !was_set_up(row) => {
            return closed(
                Cause::TaskInvalid,
                &format!("a patch agent needs python3 in the task's image: it {told}"),
            );
        }
        Outcome::Exited
        | Outcome::Signalled
        | Outcome::PidLimit
        | Outcome::Killed
        | Outcome::SpawnFailed
        | Outcome::ProxyLost => Some(Cause::AgentFailed),
    };
    Finding::Passed(cause.map(|cause| note(cause, &format!("the agent {told}"))))
}

/// An install command ran before: it may have taken away what the agent is started by.
fn was_set_up(row: &Row) -> bool {
    row.step_outline().is_some_and(|step| step.setup)
}

/// That the model service was down in this phase, if it was.
fn outage(all: &[Evidence]) -> Option<String> {
    let (before, after) = account(all)?;
    let ledger = after.since(before);
    if !ledger.was_provider_down() {
        return None;
    }
    if ledger.frozen {
        return Some("the model service did not keep to what was asked or reserved".to_owned());
    }
    Some(format!(
        "the model service failed {} requests, {} of them at the end, and answered {}",
        ledger.provider_failures, ledger.failures_in_a_row, ledger.answers
    ))
}

/// `None` when it ended in a way that lets its reward count. A judge whose model was down has judged nobody.
fn verifier(row: &Row, end: &End, all: &[Evidence]) -> Option<Finding> {
    let told = told(end);
    if let Some(outage) = outage(all) {
        return Some(closed(
            Cause::ProviderDown,
            &format!("{outage}; the verifier {told}"),
        ));
    }
    let shared = row.step_outline().is_some_and(|step| !step.separate);
    let cause = match end.outcome {
        Outcome::Timeout => Cause::VerifierTimeout,
        Outcome::Oom => Cause::VerifierOutOfMemory,
        Outcome::DiskLimit => Cause::VerifierOutOfDisk,
        // The image's shell started the healthcheck and the agent; only the agent can have broken it since.
        Outcome::SpawnFailed if shared && row.contract.has_bundle() => Cause::AgentBrokeSandbox,
        Outcome::SpawnFailed => Cause::TaskInvalid,
        Outcome::Exited | Outcome::Signalled | Outcome::PidLimit | Outcome::Killed | Outcome::ProxyLost => {
            return None;
        }
    };
    Some(closed(cause, &format!("the verifier {told}")))
}

/// What was looked for, and how the verifier ended that did not leave it.
fn no_reward(all: &[Evidence]) -> String {
    let ended = all.iter().find_map(|item| {
        if let Evidence::Ended(Job::Verifier, end) = item {
            Some(format!("; it {}", told(end)))
        } else {
            None
        }
    });
    let ended = ended.unwrap_or_default();
    format!("the verifier left neither reward.json nor reward.txt in /logs/verifier{ended}")
}

/// That there is no diff, and how the agent ended that did not return one.
fn no_diff(row: &Row) -> String {
    let fault = row.memo.fault.as_ref();
    let why = fault.map_or_else(String::new, |note| format!(": {}", note.detail));
    format!("the agent returned no diff{why}")
}

fn succeeded(end: &End) -> bool {
    end.outcome == Outcome::Exited && end.exit_code == Some(0)
}

/// How an execution ended, as the rest of a sentence.
fn told(end: &End) -> String {
    let detail = end
        .detail
        .as_ref()
        .map_or_else(String::new, |detail| format!(": {detail}"));
    match end.outcome {
        Outcome::Exited => format!("exited with code {}{detail}", end.exit_code.unwrap_or_default()),
        Outcome::Signalled => format!("was ended by signal {}", end.signal.unwrap_or_default()),
        Outcome::Timeout => format!("ran past its deadline after {} s", end.wall_ms / 1000),
        Outcome::Oom => "ran out of memory".to_owned(),
        Outcome::PidLimit => "made too many processes".to_owned(),
        Outcome::DiskLimit => format!("wrote more than its disk may hold{detail}"),
        Outcome::Killed => "was killed".to_owned(),
        Outcome::SpawnFailed => format!("could not be started{detail}"),
        Outcome::ProxyLost => "lost its proxy".to_owned(),
    }
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Task => "task",
        Part::Agent => "agent",
    }
}

fn closed(cause: Cause, detail: &str) -> Finding {
    Finding::Closed(note(cause, detail))
}

fn note(cause: Cause, detail: &str) -> Note {
    Note {
        cause,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests;
