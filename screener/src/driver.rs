//! The thin shell around [`next`]: carries out its commands for one attempt and brings back what was observed.
//!
//! Every phase can be run again after a restart: names follow from the attempt, executions attach instead of starting
//! twice, uploads overwrite. Dropping a driver stops nothing in the sandbox.

mod account;
mod agent;
mod bundle;
mod clean;
mod collect;
mod disk;
mod execute;
mod fetch;
mod health;
mod journal;
mod live;
mod pack;
mod prepare;
mod proof;
mod replay;
mod report;
mod retar;
mod services;
mod setup;
mod shell;
mod spec;
mod start;
mod tested;
mod verify;

use std::{path::PathBuf, sync::Arc, time::Duration};

use assay_core::{
    agent::Manifest,
    cause::Cause,
    clock::Clock,
    control::proxy::Ledger,
    limits::LimitSettings,
    phase::Phase,
    task::plan::{Plan, StepPlan},
    wire::worker::Assignment,
};
use assay_engine::Engine;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

pub use self::bundle::model_env;
use self::{journal::Journal, live::Live};
use crate::{
    evidence::{Command, Evidence},
    next::next,
    output::{follow::Follower, ship::Shipper},
    platform::{self, Platform},
    row::Row,
    sandboxes::Sandboxes,
    slots::Slot,
};

/// What all attempts of a worker share.
pub struct Site<E> {
    /// Where sandboxes run.
    pub engine: Arc<E>,
    /// The API.
    pub platform: Platform,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Folders for archives and build contexts.
    pub work_dir: PathBuf,
    /// DNS servers that proxies ask.
    pub resolvers: Vec<std::net::SocketAddr>,
    /// Defaults and maxima of limits.
    pub limits: LimitSettings,
    /// The sums of what proxies counted.
    pub sandboxes: Sandboxes,
    /// Held by each attempt that has no sandbox yet.
    pub rising: Arc<()>,
}

/// What the worker's loops tell a driver.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Somebody cancelled the run.
    pub cancel: CancellationToken,
    /// The lease is lost: touch nothing any more.
    pub lost: CancellationToken,
    /// The lease goes back: leave the sandbox alive.
    pub handoff: CancellationToken,
}

/// How driving an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is closed.
    Reported(Cause),
    /// Somebody else has it, or the API could not be reached for too long.
    Lost,
    /// It waits for another worker.
    HandedOff,
}

/// Why a phase stops early.
#[derive(Debug)]
enum Halt {
    /// The lease is lost.
    Lost,
    /// An observation that ends the phase.
    Seen(Box<Evidence>),
}

impl From<Evidence> for Halt {
    fn from(evidence: Evidence) -> Self {
        Self::Seen(Box::new(evidence))
    }
}

impl From<platform::Error> for Halt {
    fn from(error: platform::Error) -> Self {
        match error {
            platform::Error::Lost => Self::Lost,
            platform::Error::Call(_) | platform::Error::TooLong { .. } => {
                Evidence::Store(error.to_string()).into()
            }
            platform::Error::File { .. } => Evidence::Bug(error.to_string()).into(),
        }
    }
}

/// Drives one attempt.
pub struct Driver<E> {
    site: Arc<Site<E>>,
    assignment: Assignment,
    slot: Slot,
    row: Row,
    journal: Journal,
    signals: Signals,
    folder: PathBuf,
    plan: Option<Arc<Plan>>,
    manifest: Option<Manifest>,
    /// What the task archive holds.
    files: Option<assay_core::archive::Files>,
    live: Option<Arc<Live>>,
    /// A verifier's own sandbox, while it is used.
    apart: Option<Arc<Live>>,
    /// What goes into it beside the task's own files.
    carried_bytes: u64,
    /// Until there is a sandbox.
    rising: Option<Arc<()>>,
    output: Option<Shipper>,
    /// Carries away what the proxy of the agent's sandbox writes down.
    records: Option<Follower>,
    /// The end of what the last execution wrote to standard error.
    last_words: Vec<u8>,
    /// The phase under way was begun by a worker before this one.
    adopting: bool,
    /// This worker, or one before, has asked for an image; a build that was cut off leaves its sandbox.
    may_have_built: bool,
    /// The account of the sandbox in use when the phase began.
    account: Ledger,
    /// How far this machine's clock is ahead of where the assignment comes from.
    ahead: SignedDuration,
}

impl<E: Engine> Driver<E> {
    /// A driver for an assignment, new or adopted.
    pub fn new(site: Arc<Site<E>>, assignment: Assignment, slot: Slot, signals: Signals) -> Self {
        let here = site.clock.now();
        let ahead = assignment
            .now
            .map_or(SignedDuration::ZERO, |there| here.duration_since(there));
        let row = Row::of(&assignment, &site.limits.default);
        let folder = site
            .work_dir
            .join(format!("attempt-{}-{}", assignment.attempt, assignment.fence));
        Self {
            journal: Journal::new(&assignment),
            slot,
            row,
            signals,
            folder,
            plan: None,
            manifest: None,
            files: None,
            live: None,
            apart: None,
            carried_bytes: 0,
            rising: assignment.adopted.is_none().then(|| Arc::clone(&site.rising)),
            output: None,
            records: None,
            last_words: Vec::new(),
            adopting: assignment
                .adopted
                .as_ref()
                .is_some_and(|progress| progress.phase.is_some()),
            may_have_built: assignment.adopted.is_some(),
            account: Ledger::default(),
            ahead,
            site,
            assignment,
        }
    }

    /// Drives the attempt to its report.
    pub async fn drive(mut self) -> Ended {
        let ended = self.steps().await;
        self.output = None;
        if let Err(error) = tokio::fs::remove_dir_all(&self.folder).await {
            tracing::debug!(%error, "nothing to remove");
        }
        ended
    }

    async fn steps(&mut self) -> Ended {
        let mut evidence = Vec::new();
        loop {
            let commands = next(&self.row, &evidence);
            for command in commands {
                match command {
                    Command::Save(row) => {
                        self.row = *row;
                        self.adopting = false;
                    }
                    Command::Run { limit, .. } => match self.phase(limit).await {
                        Ok(found) => evidence = found,
                        Err(ended) => return ended,
                    },
                    Command::Report(closing) => return self.report(closing).await,
                }
            }
        }
    }

    /// Runs the phase of the row under its deadline.
    async fn phase(&mut self, limit: Duration) -> Result<Vec<Evidence>, Ended> {
        let phase = self.row.phase;
        let left = self.time_left();
        // The phase's own limit is kept inside the sandbox; this one catches what does not answer.
        let deadline = limit + SLACK;
        let over = if left < deadline && phase != Phase::Report {
            Evidence::Expired
        } else {
            Evidence::Overdue
        };
        let deadline = if phase == Phase::Report {
            deadline
        } else {
            deadline.min(left)
        };
        let signals = self.signals.clone();
        let run = Box::pin(tokio::time::timeout(deadline, self.observe(phase, limit)));
        // cancel-safe: a phase that is dropped can be run again, and its sandbox is named by the attempt.
        let seen = tokio::select! {
            biased;
            () = signals.lost.cancelled() => return Err(Ended::Lost),
            () = signals.handoff.cancelled(), if phase != Phase::Report => return Err(Ended::HandedOff),
            () = signals.cancel.cancelled(), if phase != Phase::Report => vec![Evidence::Cancelled],
            seen = run => match seen {
                Ok(Ok(seen)) => seen,
                Ok(Err(Halt::Lost)) => return Err(Ended::Lost),
                Ok(Err(Halt::Seen(evidence))) => vec![*evidence],
                Err(_) => vec![over],
            },
        };
        let seen = self.with_services(seen).await;
        let seen = self.with_state(seen).await;
        self.end_phase(&seen).await?;
        Ok(seen)
    }

    async fn observe(&mut self, phase: Phase, limit: Duration) -> Result<Vec<Evidence>, Halt> {
        if phase != Phase::Report {
            // The last one says by itself when it begins.
            self.begin_phase(limit).await?;
        }
        match phase {
            Phase::Prepare => self.prepare().await,
            Phase::Start => self.start().await,
            Phase::Health => self.health().await,
            Phase::Setup => self.setup().await,
            Phase::Agent => self.agent().await,
            Phase::Collect => self.collect().await,
            Phase::Verify => self.verify().await,
            Phase::Report => self.last_uploads(limit).await,
        }
    }

    async fn begin_phase(&mut self, limit: Duration) -> Result<(), Halt> {
        let now = self.now();
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let deadline = i64::try_from(limit_ms)
            .ok()
            .and_then(|ms| now.checked_add(SignedDuration::from_millis(ms)).ok());
        self.journal.phase_deadline = deadline;
        let kind = if self.adopting {
            "phase_adopted"
        } else {
            "phase_started"
        };
        self.journal
            .note(&self.row, now, kind, serde_json::json!({ "limit_ms": limit_ms }));
        self.journal.flush(&self.site.platform, &self.row).await?;
        self.output = Some(Shipper::start(
            &self.site.platform,
            self.assignment.attempt,
            self.assignment.fence,
            (self.row.step, self.row.phase),
            self.journal.stored(),
        ));
        Ok(())
    }

    /// Stores what is left of the output and notes how the phase ended. The event goes with the next write.
    async fn end_phase(&mut self, seen: &[Evidence]) -> Result<(), Ended> {
        let now = self.now();
        if let Some(output) = self.output.take() {
            let cancelled = seen.contains(&Evidence::Cancelled);
            let patience = if cancelled {
                CANCEL_PATIENCE
            } else {
                OUTPUT_PATIENCE
            };
            let shipped = output.finish(patience).await.map_err(|_| Ended::Lost)?;
            for (stream, gap) in &shipped.gaps {
                let data = serde_json::json!({ "stream": stream.name(), "from": gap.from, "to": gap.to });
                self.journal.note(&self.row, now, "output_gap", data);
            }
            if shipped.unstored {
                self.journal
                    .note(&self.row, now, "output_unstored", serde_json::Value::Null);
            }
        }
        let data = serde_json::json!({ "evidence": seen.iter().map(journal::told).collect::<Vec<_>>() });
        self.journal.note(&self.row, now, "phase_ended", data);
        Ok(())
    }

    /// Adds what the engine says where something in the sandbox did not answer or died.
    async fn with_state(&self, mut seen: Vec<Evidence>) -> Vec<Evidence> {
        let doubtful = seen.iter().any(|item| {
            matches!(
                item,
                Evidence::Silent(_) | Evidence::NotSwitched(_) | Evidence::Overdue | Evidence::Expired
            ) || matches!(item, Evidence::Ended(_, end) if end.outcome == assay_core::control::runner::Outcome::ProxyLost)
        });
        let (live, told): (_, fn(_) -> _) = match &self.apart {
            Some(apart) => (Some(apart), Evidence::VerifierSandbox),
            None => (self.live.as_ref(), Evidence::Sandbox),
        };
        if let Some(live) = live.filter(|_| doubtful) {
            match tokio::time::timeout(STATE_TIMEOUT, self.settled_state(live)).await {
                Ok(Ok(state)) => seen.push(told(state)),
                Ok(Err(error)) => tracing::warn!(%error, "the engine does not know the sandbox's state"),
                Err(_) => tracing::warn!("the engine does not answer"),
            }
        }
        seen
    }

    /// The state of a sandbox that stopped answering. A connection breaks before the engine has heard of the death behind
    /// it, and of the reason later still, so one that does not explain the silence is asked about again for a while.
    async fn settled_state(&self, live: &Live) -> Result<assay_engine::Evidence, assay_engine::Error> {
        let began = tokio::time::Instant::now();
        let mut pause = BETWEEN_LOOKS;
        loop {
            let state = self.site.engine.evidence(&live.name()).await?;
            if state.explains() || began.elapsed() > TELL_OF_DEATH {
                return Ok(state);
            }
            tokio::time::sleep(pause).await;
            // Most know it at once; the others take seconds, and a cluster is not to be asked ten times in each.
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The time where the assignment comes from, however this machine's clock goes: deadlines and events are told in it.
    fn now(&self) -> Timestamp {
        let here = self.site.clock.now();
        here.checked_sub(self.ahead).unwrap_or(here)
    }

    fn time_left(&self) -> Duration {
        let left = self.assignment.deadline.duration_since(self.now());
        Duration::try_from(left).unwrap_or_default()
    }

    fn plan(&self) -> Result<Arc<Plan>, Halt> {
        let missing = || Evidence::Bug("the task is not read".to_owned()).into();
        self.plan.clone().ok_or_else(missing)
    }

    fn step_plan(&self) -> Result<StepPlan, Halt> {
        let index = usize::try_from(self.row.step).unwrap_or(usize::MAX);
        let missing = || Evidence::Bug(format!("the task has no step {index}")).into();
        self.plan()?.steps.get(index).cloned().ok_or_else(missing)
    }
}

/// For uploads, downloads and answers on top of a phase's own limit.
const SLACK: Duration = Duration::from_mins(2);
/// The store may be away for a minute without the end of an output being lost.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(150);
/// Who cancels wants the sandbox gone, not the last line.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
const STATE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an engine may take to hear of a death: a kubelet tells of an eviction once every container has ended.
const TELL_OF_DEATH: Duration = Duration::from_secs(6);
/// The first pause between two looks; each is twice as long as the one before it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
