//! The one decision of the screener: from a row and what was observed to what is done next. Pure.
//!
//! prepare → start → health → (setup → agent → collect → verify) per step → report. Phases in which nothing is to be
//! done are passed over. Whatever happens, an attempt ends in exactly one [`Command::Report`].

use std::collections::BTreeMap;

use assay_core::{agent::Contract, cause::Cause, phase::Phase, reward};

use crate::{
    classify::{self, Finding},
    evidence::{Command, Evidence},
    row::{Closing, Note, Row},
};

/// Decides what is done next.
///
/// Without evidence the phase of the row is run: that is how a new attempt starts and how an adopted one goes on.
pub fn next(row: &Row, evidence: &[Evidence]) -> Vec<Command> {
    match classify::classify(row, evidence) {
        Finding::Nothing => vec![run(row)],
        Finding::Closed(note) => close(row, note),
        Finding::Passed(fault) => {
            let mut row = row.clone();
            learn(&mut row, evidence);
            row.memo.fault = row.memo.fault.take().or(fault);
            advance(&row)
        }
        Finding::Stored(fault) => vec![Command::Report(closing(row, fault))],
    }
}

fn run(row: &Row) -> Command {
    Command::Run {
        step: row.step,
        phase: row.phase,
        limit: row.limit(),
    }
}

/// What each phase is there to find out. The task's shape stays as it was prepared: later steps count on it.
fn learn(row: &mut Row, evidence: &[Evidence]) {
    for item in evidence {
        match (row.phase, item) {
            (Phase::Prepare, Evidence::Prepared(outline)) => row.memo.outline = Some(outline.clone()),
            (Phase::Verify, Evidence::Rewarded(rewards)) => {
                row.memo.rewards.push(rewards.clone());
                row.memo.verified = true;
            }
            _ => {}
        }
    }
}

fn advance(row: &Row) -> Vec<Command> {
    let (step, phase) = following(row);
    if phase == Phase::Report {
        return close(row, verdict(row));
    }
    let mut row = row.clone();
    row.step = step;
    row.phase = phase;
    row.memo.bases.clear();
    let run = run(&row);
    vec![Command::Save(Box::new(row)), run]
}

/// The phase after the row's one, with nothing-to-do phases left out.
fn following(row: &Row) -> (u32, Phase) {
    let has_health = row.memo.outline.as_ref().is_some_and(|outline| outline.health);
    let first = |step: u32| {
        let outline = row.memo.outline.as_ref();
        let outline = outline.and_then(|outline| outline.steps.get(usize::try_from(step).ok()?));
        match outline {
            None => (row.step, Phase::Report),
            Some(outline) if outline.setup => (step, Phase::Setup),
            Some(_) => (step, Phase::Agent),
        }
    };
    match row.phase {
        Phase::Prepare => (row.step, Phase::Start),
        Phase::Start if has_health => (row.step, Phase::Health),
        Phase::Start | Phase::Health => first(0),
        Phase::Setup => (row.step, Phase::Agent),
        Phase::Agent => (row.step, Phase::Collect),
        Phase::Collect => (row.step, Phase::Verify),
        Phase::Verify if reaches_minimum(row) => first(row.step.saturating_add(1)),
        Phase::Verify | Phase::Report => (row.step, Phase::Report),
    }
}

/// A step whose reward is too low ends a multi-step task.
fn reaches_minimum(row: &Row) -> bool {
    let Some(minimum) = row.step_outline().map(|step| &step.min_reward) else {
        return true;
    };
    let last = row.memo.rewards.last();
    minimum.iter().all(|(key, least)| {
        last.and_then(|rewards| rewards.get(key))
            .is_some_and(|value| value >= least)
    })
}

/// The cause of an attempt whose verifier gave a reward.
fn verdict(row: &Row) -> Note {
    row.memo.fault.clone().unwrap_or_else(|| Note {
        cause: Cause::Completed,
        detail: match row.contract {
            Contract::Nop => "nothing was done, and the verifier gave a reward".to_owned(),
            Contract::Oracle | Contract::Patch | Contract::Command => "the verifier gave a reward".to_owned(),
        },
    })
}

fn close(row: &Row, note: Note) -> Vec<Command> {
    let mut row = row.clone();
    let score = score(&row, note.cause);
    row.phase = Phase::Report;
    row.memo.bases.clear();
    row.memo.closing = Some(Closing {
        cause: note.cause,
        detail: note.detail,
        score: score.as_ref().map(|(_, score)| *score),
        rewards: score.map(|(rewards, _)| rewards),
    });
    let run = run(&row);
    vec![Command::Save(Box::new(row)), run]
}

/// Rewards and score of a graded cause. An agent's fault that left nothing to verify is a zero.
fn score(row: &Row, cause: Cause) -> Option<(BTreeMap<String, f64>, f64)> {
    if !cause.is_graded() {
        return None;
    }
    let mut steps = row.memo.rewards.clone();
    let done = usize::try_from(row.step).map_or(usize::MAX, |step| step + 1);
    if steps.len() < done {
        steps.push(BTreeMap::from([("reward".to_owned(), 0.0)]));
    }
    let final_only = row
        .memo
        .outline
        .as_ref()
        .is_some_and(|outline| outline.final_only);
    let rewards = combine(&steps, final_only)?;
    let score = reward::score(&rewards)?;
    Some((rewards, score))
}

fn closing(row: &Row, fault: Option<Note>) -> Closing {
    if let Some(note) = fault {
        return Closing {
            cause: note.cause,
            detail: note.detail,
            rewards: None,
            score: None,
        };
    }
    row.memo.closing.clone().unwrap_or_else(|| Closing {
        cause: Cause::Internal,
        detail: "the last phase began without a verdict".to_owned(),
        rewards: None,
        score: None,
    })
}

/// One reward per key over the steps: the last step's, or the mean where a missing key counts as zero.
fn combine(steps: &[BTreeMap<String, f64>], final_only: bool) -> Option<BTreeMap<String, f64>> {
    let last = steps.last()?;
    if final_only || steps.len() == 1 {
        return Some(last.clone());
    }
    let steps: Vec<_> = steps.iter().cloned().map(Some).collect();
    reward::mean_of_steps(&steps)
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a table names only what differs")]
mod tests;
