//! Phase `report`: the last uploads, then the one call that closes the attempt, then the sandbox goes.

use std::time::Duration;

use assay_core::{cause::Cause, wire::worker::Report};
use assay_engine::{Engine, SandboxRef};

use super::{
    Driver, Ended, Halt,
    live::{Live, Surroundings},
};
use crate::{
    derive::{self, Place},
    evidence::Evidence,
    platform,
    row::Closing,
};

impl<E: Engine> Driver<E> {
    pub(super) async fn last_uploads(&mut self) -> Result<Vec<Evidence>, Halt> {
        self.find_quietly().await;
        let cancelled = self.cause() == Some(Cause::Cancelled);
        if let Some(live) = self.live.clone().filter(|_| !cancelled) {
            // What it learns of bills is to be in the records.
            live.at_rest().await;
        }
        if let Some(live) = self.live.clone().filter(|_| !cancelled) {
            self.keep_service_output(&live, Place::Main).await?;
        }
        if let Some(records) = self.records.take() {
            let patience = if cancelled { READ_TIMEOUT } else { RECORDS_PATIENCE };
            self.finish_records(records, patience).await?;
        }
        if let Some(live) = self.live.clone() {
            self.account = self.row.memo.last.clone();
            match tokio::time::timeout(READ_TIMEOUT, self.agent_account(&live)).await {
                Ok(Ok(_)) => self.ask_for_bills(&live).await,
                Ok(Err(Halt::Lost)) => return Err(Halt::Lost),
                Ok(Err(_)) | Err(_) => self.close_accounts().await?,
            }
        } else if self.journal.sandbox.is_some() {
            self.close_accounts().await?;
        }
        if cancelled {
            self.destroy().await;
        }
        Ok(vec![Evidence::Stored])
    }

    fn cause(&self) -> Option<Cause> {
        self.row.memo.closing.as_ref().map(|closing| closing.cause)
    }

    /// The sandbox of an adopted attempt, if it is still there.
    async fn find_quietly(&mut self) {
        let Some(sandbox) = self.journal.sandbox.filter(|_| self.live.is_none()) else {
            return;
        };
        let name = SandboxRef { sandbox };
        let found = tokio::time::timeout(READ_TIMEOUT, self.site.engine.find(&name)).await;
        if let Ok(Ok(Some(sandbox))) = found
            && let Some(seed) = derive::seed(&self.assignment.seed, Place::Main)
        {
            let live = Live::new(sandbox, &seed, self.assignment.fence, Surroundings::default());
            self.hold(std::sync::Arc::new(live));
        }
    }

    /// Closes the attempt, then removes its sandboxes.
    pub(super) async fn report(&mut self, closing: Closing) -> Ended {
        if let Err(error) = self.journal.flush(&self.site.platform, &self.row).await {
            if matches!(error, platform::Error::Lost) {
                return Ended::Lost;
            }
            tracing::warn!(%error, "the last events are not stored");
        }
        let memo = &self.row.memo;
        let body = Report {
            fence: self.assignment.fence,
            cause: closing.cause,
            detail: closing.detail,
            rewards: closing.rewards,
            score: closing.score,
            verifier_mode: memo.mode.map(|mode| mode.name().to_owned()),
            ledger: memo.ledger.clone(),
            verifier_ledger: memo.verifier_ledger.clone(),
            usage: memo.usage,
            replayed: self.assignment.replay.is_some(),
        };
        match self.site.platform.report(self.assignment.attempt, &body).await {
            Ok(()) => {
                self.destroy().await;
                Ended::Reported(closing.cause)
            }
            Err(error) => {
                tracing::error!(%error, attempt.id = %self.assignment.attempt, "the report did not arrive");
                Ended::Lost
            }
        }
    }

    /// Removes every sandbox of the attempt. What cannot be removed now is found by the reconciler.
    async fn destroy(&mut self) {
        if let Some(live) = self.live.take() {
            live.collected().await;
        }
        let steps = self
            .row
            .memo
            .outline
            .as_ref()
            .map_or(0, |outline| outline.steps.len());
        let separate = |step: &u32| {
            let outline = self.row.memo.outline.as_ref();
            outline.is_some_and(|outline| {
                usize::try_from(*step)
                    .ok()
                    .and_then(|step| outline.steps.get(step))
                    .is_some_and(|step| step.separate)
            })
        };
        let verifiers = (0..u32::try_from(steps).unwrap_or(0))
            .filter(separate)
            .map(Place::Verifier);
        let build = self.may_have_built.then_some(Place::Build);
        for place in [Place::Main].into_iter().chain(build).chain(verifiers) {
            let name = SandboxRef {
                sandbox: derive::sandbox(self.assignment.attempt, place),
            };
            match tokio::time::timeout(DESTROY_TIMEOUT, self.site.engine.destroy(&name)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the sandbox stays for the reconciler"),
                Err(_) => {
                    tracing::warn!("the sandbox could not be removed in time; it stays for the reconciler");
                }
            }
        }
    }
}

const READ_TIMEOUT: Duration = Duration::from_secs(3);
const RECORDS_PATIENCE: Duration = Duration::from_secs(30);
const DESTROY_TIMEOUT: Duration = Duration::from_mins(1);
