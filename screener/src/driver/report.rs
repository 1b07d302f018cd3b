//! Phase `report`: the last uploads, then the one call that closes the attempt, then the sandbox goes.

use std::{future::Future, time::Duration};

use assay_core::{
    cause::Cause,
    ledger::{self, Book},
    money::PicoUsd,
    phase::EgressPhase,
    wire::worker::Report,
};
use assay_engine::{Engine, SandboxRef};
use assay_runtime::router;
use futures_util::future::join_all;

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
    /// The sandbox of a cancelled attempt goes first, whenever the word comes: who cancels waits for no store, no API and no
    /// bill.
    pub(super) async fn last_uploads(&mut self, limit: Duration) -> Result<Vec<Evidence>, Halt> {
        let cancel = self.signals.cancel.clone();
        let was_cancelled = self
            .row
            .memo
            .closing
            .as_ref()
            .is_some_and(|closing| closing.cause == Cause::Cancelled);
        if was_cancelled {
            // It may have been told to another worker.
            cancel.cancel();
        } else {
            self.begin_phase(limit).await?;
            // cancel-safe: what is cut off here is left out of what is kept.
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                rested = self.rest() => rested?,
            }
        }
        let told = self.take_account().await?;
        if cancel.is_cancelled() {
            self.destroy().await;
        }
        if was_cancelled {
            self.begin_phase(limit).await?;
        }
        match told {
            Told::NoSandbox => {}
            Told::Nothing => self.close_accounts().await?,
            Told::Account(book) => self.ask_for_bills(book).await,
        }
        Ok(vec![Evidence::Stored])
    }

    /// Gives the sandbox the time to say what it still has to say.
    async fn rest(&mut self) -> Result<(), Halt> {
        self.find_quietly().await;
        if let Some(live) = self.live.clone() {
            // What it learns of bills is to be in the records.
            live.at_rest().await;
            self.keep_service_output(&live, Place::Main).await?;
        }
        Ok(())
    }

    /// Takes from the proxy what nobody can ask it when it is gone.
    async fn take_account(&mut self) -> Result<Told, Halt> {
        self.find_quietly().await;
        if let Some(records) = self.records.take() {
            self.finish_records(records, RECORDS_PATIENCE).await?;
        }
        let Some(live) = self.live.clone() else {
            return Ok(self.journal.sandbox.map_or(Told::NoSandbox, |_| Told::Nothing));
        };
        self.account = self.row.memo.last.clone();
        match tokio::time::timeout(READ_TIMEOUT, self.agent_account(&live)).await {
            Ok(Ok(_)) => {}
            Ok(Err(Halt::Lost)) => return Err(Halt::Lost),
            Ok(Err(_)) | Err(_) => return Ok(Told::Nothing),
        }
        self.row.memo.ledger.close();
        if self.row.memo.ledger.unresolved.is_zero() {
            return Ok(Told::Account(Book::default()));
        }
        match tokio::time::timeout(READ_TIMEOUT, live.write_ahead_log()).await {
            Ok(Ok(log)) => return Ok(Told::Account(Book::replay(&ledger::log::read(&log)))),
            Ok(Err(error)) => tracing::warn!(%error, "the write-ahead log cannot be read"),
            Err(_) => tracing::warn!("the write-ahead log cannot be read in time"),
        }
        Ok(Told::Account(Book::default()))
    }

    /// Asks the model services for the bills that the proxy could not ask for any more: it may have died in between. What
    /// they do not tell stays unresolved. A word to cancel removes the sandbox meanwhile.
    async fn ask_for_bills(&mut self, mut book: Book) {
        book.close();
        let before = sums(&book);
        let upstreams = self.assignment.upstreams.clone();
        {
            let asked = router::reconcile(&upstreams, &mut book);
            self.or_destroyed(asked).await;
        }
        let now = sums(&book);
        let account = &mut self.row.memo.ledger;
        account.settled += now.0.saturating_sub(before.0);
        account.unresolved = account.unresolved.saturating_sub(before.1.saturating_sub(now.1));
    }

    /// Waits for something that needs no sandbox, and removes that as soon as somebody cancels.
    async fn or_destroyed<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let cancel = self.signals.cancel.clone();
        let mut waiting = std::pin::pin!(waiting);
        // cancel-safe: what waits goes on below.
        tokio::select! {
            biased;
            done = &mut waiting => return done,
            () = cancel.cancelled() => self.destroy().await,
        }
        waiting.await
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
        let (platform, attempt) = (self.site.platform.clone(), self.assignment.attempt);
        match self.or_destroyed(platform.report(attempt, &body)).await {
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
        if let Some(live) = self.live.take()
            && tokio::time::timeout(GOODBYE, live.collected()).await.is_err()
        {
            tracing::debug!("the proxy did not answer");
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
        let places = [Place::Main].into_iter().chain(build).chain(verifiers);
        join_all(places.map(|place| self.remove_sandbox(place))).await;
    }

    async fn remove_sandbox(&self, place: Place) {
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

/// What the proxy of a sandbox said about money before it went.
enum Told {
    /// There was none.
    NoSandbox,
    /// It did not answer.
    Nothing,
    /// Its account is read; the book has the answers whose bills are still to be asked for.
    Account(Book),
}

/// What the agent's answers have cost, and what they may have.
fn sums(book: &Book) -> (PicoUsd, PicoUsd) {
    let account = book.account(EgressPhase::Agent).cloned().unwrap_or_default();
    (account.settled(), account.unresolved())
}

const READ_TIMEOUT: Duration = Duration::from_secs(3);
const RECORDS_PATIENCE: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(1);
const DESTROY_TIMEOUT: Duration = Duration::from_mins(1);
