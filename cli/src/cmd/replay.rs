//! `run --replay` and `submit --replay`: what is taken over from the run whose recorded answers are used.

use assay_core::{
    id::RunId,
    policy::{Policy, Recorded},
    wire::people::{Agent, Evaluation, Run},
};

use crate::{api::Api, error::Error};

/// The run that is replayed.
#[derive(Debug)]
pub(super) struct Origin {
    /// The run.
    pub(super) run: Run,
    /// Its agent.
    pub(super) agent: Agent,
    evaluation: Evaluation,
    recording: assay_core::digest::Digest,
}

impl Origin {
    /// Finds the run and has its recording kept.
    pub(super) async fn find(api: &Api, run: RunId) -> Result<Self, Error> {
        let recording = api.keep_recording(run).await?.digest;
        let run = api.run(run).await?;
        let evaluation = api.evaluation(run.evaluation).await?;
        let agent = api.agent(evaluation.agent).await?;
        Ok(Self {
            run,
            agent,
            evaluation,
            recording,
        })
    }

    /// The given policy, or that of the run, answered from the recording.
    pub(super) fn policy(&self, given: Option<Policy>) -> Policy {
        Policy {
            record: Recorded::Nothing,
            replay: Some(self.recording),
            ..given.unwrap_or_else(|| self.evaluation.policy.clone())
        }
    }
}
