//! Events of an attempt and the row that goes with them: noted at once, written together.

use assay_core::{
    control::runner::Outcome,
    id::{AttemptId, Fence, SandboxId},
    wire::worker::{Assignment, NewEvent, PostEvents, Progress},
};
use jiff::Timestamp;

use crate::{
    evidence::Evidence,
    platform::{Error, Platform},
    row::Row,
};

/// What is written of an attempt while it is driven.
#[derive(Debug)]
pub(super) struct Journal {
    attempt: AttemptId,
    fence: Fence,
    seq: u64,
    pending: Vec<NewEvent>,
    stored: Progress,
    /// The live sandbox.
    pub(super) sandbox: Option<SandboxId>,
    /// Of the last phase switch asked for.
    pub(super) generation: u64,
    /// Of the phase under way.
    pub(super) phase_deadline: Option<Timestamp>,
}

impl Journal {
    /// Goes on after the last event that is stored.
    pub(super) fn new(assignment: &Assignment) -> Self {
        let stored = assignment.adopted.clone().unwrap_or_default();
        Self {
            attempt: assignment.attempt,
            fence: assignment.fence,
            seq: stored.seq,
            pending: Vec::new(),
            sandbox: stored.sandbox,
            generation: stored.generation,
            phase_deadline: stored.phase_deadline,
            stored,
        }
    }

    /// What was stored when this worker took over; its output offsets hold for the phase that was adopted.
    pub(super) fn stored(&self) -> &Progress {
        &self.stored
    }

    /// Notes an event, to be written with the next [`Self::flush`].
    pub(super) fn note(&mut self, row: &Row, at: Timestamp, kind: &str, data: serde_json::Value) {
        self.seq += 1;
        self.pending.push(NewEvent {
            seq: self.seq,
            at,
            step: row.step,
            phase: row.phase,
            kind: kind.to_owned(),
            data,
        });
    }

    /// Writes the events noted and the row. Repeated events are ignored by the API, so a lost answer does no harm.
    pub(super) async fn flush(&mut self, platform: &Platform, row: &Row) -> Result<(), Error> {
        let body = PostEvents {
            fence: self.fence,
            events: self.pending.clone(),
            progress: Progress {
                sandbox: self.sandbox,
                generation: self.generation,
                phase_deadline: self.phase_deadline,
                ..row.progress()
            },
        };
        platform.events(self.attempt, &body).await?;
        self.pending.clear();
        Ok(())
    }
}

/// An observation for people, without content that a workload could fill.
pub(super) fn told(evidence: &Evidence) -> serde_json::Value {
    use serde_json::json;
    match evidence {
        Evidence::Ended(job, end) => json!({
            "what": format!("{job:?}").to_lowercase(),
            "outcome": end.outcome,
            "exit_code": end.exit_code.filter(|_| end.outcome == Outcome::Exited),
            "signal": end.signal,
            "wall_ms": end.wall_ms,
            "usage": end.usage,
        }),
        Evidence::Account { after, .. } => json!({ "what": "account", "ledger": after }),
        Evidence::Rewarded(rewards) => json!({ "what": "reward", "rewards": rewards }),
        Evidence::Prepared(outline) => json!({ "what": "prepared", "steps": outline.steps.len() }),
        Evidence::Sandbox(state) | Evidence::VerifierSandbox(state) => json!({
            "what": if matches!(evidence, Evidence::Sandbox(_)) { "sandbox" } else { "verifier_sandbox" },
            "gone": state.gone,
            "lost": state.lost.as_ref().map(|loss| loss.kind.as_str()),
            "main": state.main.as_ref().map(|death| (death.code, death.oom)),
            "proxy": state.proxy.as_ref().map(|death| (death.code, death.oom)),
        }),
        Evidence::Build(outcome) => {
            let built = matches!(outcome, assay_engine::BuildOutcome::Built { .. });
            json!({ "what": "build", "built": built })
        }
        Evidence::Store(text)
        | Evidence::Unusable(_, text)
        | Evidence::NothingToCarry(text)
        | Evidence::TooMuchToCarry(text)
        | Evidence::Overfull(text)
        | Evidence::Engine(_, text)
        | Evidence::Unhealthy(text)
        | Evidence::ServiceFailed(text)
        | Evidence::Silent(text)
        | Evidence::NotSwitched(text)
        | Evidence::Planted(text)
        | Evidence::RewardInvalid(text)
        | Evidence::Bug(text) => json!({ "what": "fault", "detail": text }),
        Evidence::Cancelled
        | Evidence::Expired
        | Evidence::Overdue
        | Evidence::WrongDigest(_)
        | Evidence::Ready
        | Evidence::Healthy
        | Evidence::SetUp
        | Evidence::Patch(_)
        | Evidence::Collected
        | Evidence::RewardMissing
        | Evidence::Stored => json!({ "what": format!("{evidence:?}") }),
    }
}
