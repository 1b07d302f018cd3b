//! Runs on an installation that has its containers on an engine: to their ends, and until nothing is left of them.

use std::time::Duration;

use anyhow::bail;
use assay_core::{policy::Policy, wire::people::Evaluation};

use super::{Files, Installation};
use crate::person::Ended;

impl Installation {
    /// Runs a bundle, or the oracle where there is none, on a task, to its end.
    pub async fn run(&self, task: &Files, agent: Option<&Files>) -> anyhow::Result<Ended> {
        self.run_under(task, agent, Policy::default()).await
    }

    /// The same under a policy.
    pub async fn run_under(
        &self,
        task: &Files,
        agent: Option<&Files>,
        policy: Policy,
    ) -> anyhow::Result<Ended> {
        let order = self.order(task, agent, policy).await?;
        let evaluation = self.submit(&order).await?;
        self.ended(&evaluation).await
    }

    /// Waits until the one run of an evaluation has ended, then until nothing is left of it on the engine.
    pub async fn ended(&self, evaluation: &Evaluation) -> anyhow::Result<Ended> {
        let ended = self.over(evaluation).await?;
        let deadline = tokio::time::Instant::now() + GONE;
        loop {
            let left = self.docker.containers_of(ended.run.id).await?;
            if left.is_empty() {
                return Ok(ended);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{GONE:?} after its end {left:?} are left of run {}", ended.run.id);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The longest that a sandbox may outlive its run: what cannot be removed at once is the reconciler's, every 30 s.
const GONE: Duration = Duration::from_mins(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
