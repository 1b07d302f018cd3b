//! Phase `health`, and the healthchecks of steps: Docker's rules for passing and failing.

use std::time::Duration;

use assay_core::{control::runner::Outcome, task::config::Healthcheck};
use assay_engine::Engine;

use super::{Driver, Halt, execute::Job, live::Live};
use crate::{evidence::Evidence, row::seconds};

impl<E: Engine> Driver<E> {
    pub(super) async fn health(&mut self) -> Result<Vec<Evidence>, Halt> {
        let live = self.main().await?;
        let plan = self.plan()?;
        if let Some(check) = &plan.healthcheck {
            self.check_health(&live, check, live.image_user()).await?;
        }
        Ok(vec![Evidence::Healthy])
    }

    /// Checks until it passes, or fails as often as it may.
    pub(super) async fn check_health(
        &mut self,
        live: &Live,
        check: &Healthcheck,
        user: Option<String>,
    ) -> Result<(), Halt> {
        let start = tokio::time::Instant::now();
        // The number is part of an execution's name; each worker counts beyond those that were run before it.
        let mut number = if self.adopting {
            self.assignment.fence.0.saturating_mul(NUMBERS_OF_A_WORKER)
        } else {
            0
        };
        let mut failures = 0;
        loop {
            let job = Job::of_task(
                &format!("health {number}"),
                &check.command,
                user.clone(),
                seconds(check.timeout_sec),
            );
            let end = self.execute(live, job).await?;
            if end.outcome == Outcome::Exited && end.exit_code == Some(0) {
                return Ok(());
            }
            if end.outcome == Outcome::ProxyLost {
                return Err(Evidence::Silent("the proxy was lost during a healthcheck".to_owned()).into());
            }
            let early = start.elapsed() < seconds(check.start_period_sec);
            failures += i64::from(!early);
            if failures >= check.retries.max(1) {
                let detail = format!(
                    "the healthcheck failed {failures} times, last with {:?}",
                    end.outcome
                );
                return Err(Evidence::Unhealthy(detail).into());
            }
            number += 1;
            tokio::time::sleep(pause(check, early)).await;
        }
    }
}

fn pause(check: &Healthcheck, early: bool) -> Duration {
    seconds(if early {
        check.start_interval_sec
    } else {
        check.interval_sec
    })
}

const NUMBERS_OF_A_WORKER: u64 = 1_000_000;
