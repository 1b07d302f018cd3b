//! The loops of a worker: register, claim, beat, reconcile, hand back.

mod beat;
mod held;
mod proof;
mod reconcile;
mod status;

use std::{future::Future, sync::Arc, time::Duration};

use assay_core::{
    clock::{Clock, SystemClock},
    control::proxy::Ledger,
    id::{AttemptId, Fence},
    wire::{
        WIRE, WIRE_OLDEST,
        worker::{Assignment, Claim, Handoff, Lease, Register, Registered, Report, ResourceUse},
    },
};
use assay_engine::Engine;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

use self::{held::Held, proof::Proof, status::Status};
use crate::{
    config::Config,
    derive::{self, Place},
    driver::{Driver, Ended, Signals, Site},
    platform::{self, Platform, jittered},
    slots::{Slot, Slots},
};

/// Why a worker cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refuses this worker.
    #[error("the API refuses this worker: {0}")]
    Refused(#[source] platform::Error),
    /// The engine cannot be reached.
    #[error("the engine: {0}")]
    Engine(#[from] assay_engine::Error),
    /// A local file or socket.
    #[error("{what}: {source}")]
    Local {
        /// What was tried.
        what: String,
        /// What happened.
        source: std::io::Error,
    },
}

/// Works until `stop`: registers, connects the engine for the installation that it is told, claims and drives.
///
/// On `stop` it claims nothing more, hands its leases back and leaves the sandboxes alive for the next worker.
pub async fn run<E, C, F>(config: Config, stop: CancellationToken, connect: C) -> Result<(), Error>
where
    E: Engine + 'static,
    C: FnOnce(String) -> F + Send,
    F: Future<Output = Result<E, assay_engine::Error>> + Send,
{
    run_guarded(config, stop, connect, |_| std::future::ready(Ok(()))).await
}

/// [`run`], but takes no new run before `guard` says that this may be: it is asked again while what it says is transient, and
/// ends the worker when it refuses. What the worker already leases it adopts and drives meanwhile.
pub async fn run_guarded<E, C, F, G, H>(
    config: Config,
    stop: CancellationToken,
    connect: C,
    guard: G,
) -> Result<(), Error>
where
    E: Engine + 'static,
    C: FnOnce(String) -> F + Send,
    F: Future<Output = Result<E, assay_engine::Error>> + Send,
    G: Fn(String) -> H + Send + 'static,
    H: Future<Output = Result<(), assay_engine::Error>> + Send,
{
    let local = |what: String| move |source| Error::Local { what, source };
    tokio::fs::create_dir_all(&config.work_dir)
        .await
        .map_err(local(config.work_dir.display().to_string()))?;
    let status = Status::default();
    let _served = match config.listen {
        None => None,
        Some(address) => {
            let served = status::serve(address, status.clone(), stop.clone());
            let served = served.await.map_err(local(format!("listen on {address}")))?;
            Some(AbortOnDropHandle::new(tokio::spawn(served)))
        }
    };
    let platform = Platform::new(&config.api, config.credential.clone());
    let Some(registered) = register(&config, &platform, &stop).await? else {
        return Ok(());
    };
    let engine = connect(registered.installation.clone()).await?;
    let site = Site {
        engine: Arc::new(engine),
        platform,
        clock: Arc::new(SystemClock) as Arc<dyn Clock>,
        work_dir: config.work_dir.clone(),
        resolvers: config.resolvers.clone(),
        limits: registered.limits.clone(),
        sandboxes: status.sandboxes(),
        rising: Arc::default(),
    };
    status.ready(true);
    let installation = registered.installation.clone();
    let worker = Worker {
        proof: Proof::seek(move || guard(installation.clone())),
        slots: Arc::new(Slots::new(config.slots)),
        site: Arc::new(site),
        config,
        registered,
        held: Held::default(),
        status,
        drivers: JoinSet::new(),
    };
    worker.work(stop).await
}

async fn register(
    config: &Config,
    platform: &Platform,
    stop: &CancellationToken,
) -> Result<Option<Registered>, Error> {
    let body = Register {
        name: config.name.clone(),
        class: config.class.clone(),
        slots: config.slots,
        engine: config.engine.clone(),
        commit: config.commit.clone(),
        wire: WIRE,
        wire_oldest: WIRE_OLDEST,
    };
    loop {
        match platform.register(&body).await {
            Ok(registered) => {
                tracing::info!(worker.id = %registered.worker, installation = registered.installation, "registered");
                return Ok(Some(registered));
            }
            Err(error) if error.is_transient() => tracing::warn!(%error, "cannot register yet"),
            Err(error) => return Err(Error::Refused(error)),
        }
        // cancel-safe: nothing is under way.
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(jittered(REGISTER_PAUSE)) => {}
        }
    }
}

struct Worker<E> {
    proof: Proof,
    slots: Arc<Slots>,
    site: Arc<Site<E>>,
    config: Config,
    registered: Registered,
    held: Held,
    status: Status,
    drivers: JoinSet<(AttemptId, Fence, Ended)>,
}

impl<E: Engine + 'static> Worker<E> {
    async fn work(mut self, stop: CancellationToken) -> Result<(), Error> {
        let claiming = stop.clone();
        let beats = beat::beats(
            self.site.platform.clone(),
            self.registered.clone(),
            self.held.clone(),
            claiming,
        );
        let _beats = AbortOnDropHandle::new(tokio::spawn(beats));
        let reconciled = reconcile::reconcile(
            Arc::clone(&self.site),
            self.registered.worker,
            self.held.clone(),
            self.config.reconcile_every,
        );
        let reconciled = AbortOnDropHandle::new(tokio::spawn(reconciled));
        let mut pause = SHORTEST_POLL;
        let mut ended = Ok(());
        loop {
            // cancel-safe: joining and sleeping lose nothing when dropped.
            tokio::select! {
                () = stop.cancelled() => break,
                proven = self.proof.found() => {
                    if let Err(error) = proven {
                        tracing::error!(%error, "no run is taken here");
                        ended = Err(error.into());
                        break;
                    }
                    pause = SHORTEST_POLL;
                }
                Some(ended) = self.drivers.join_next_with_id() => {
                    self.take_end(ended);
                    pause = SHORTEST_POLL;
                    if self.claim().await == Some(0) {
                        pause = SHORTEST_POLL * 2;
                    }
                    continue;
                }
                () = tokio::time::sleep(jittered(pause)) => {}
            }
            pause = if self.claim().await.is_some_and(|claimed| claimed > 0) {
                SHORTEST_POLL
            } else {
                (pause * 2).min(self.config.longest_poll)
            };
        }
        drop(reconciled);
        self.status.ready(false);
        self.hand_back().await;
        ended
    }

    /// What a sandbox takes that says nothing of its own.
    fn slot(&self) -> assay_engine::Resources {
        let limits = &self.registered.limits.default;
        assay_engine::Resources {
            cpu_milli: limits.cpu_milli,
            memory_bytes: limits.memory_mb << 20,
            pids: limits.pids,
            disk_bytes: limits.storage_mb << 20,
        }
    }

    /// Attempts that will ask for a sandbox and have none yet.
    fn rising(&self) -> u32 {
        u32::try_from(Arc::strong_count(&self.site.rising) - 1).unwrap_or(u32::MAX)
    }

    /// How many were claimed; `None` where no slot is free.
    async fn claim(&mut self) -> Option<usize> {
        let slots = Arc::clone(&self.slots);
        let mut kept = slots.keep()?;
        let room = match self.site.engine.room(&self.slot()).await {
            Ok(room) => room,
            Err(error) => {
                tracing::warn!(%error, "nothing is claimed while the engine is away");
                return Some(0);
            }
        };
        let slots = kept.count();
        let fresh = if self.proof.is_there() {
            room.saturating_sub(self.rising()).min(slots)
        } else {
            0
        };
        let body = Claim {
            slots,
            fresh: Some(fresh),
        };
        match self.site.platform.claim(self.registered.worker, &body).await {
            Ok(claimed) => {
                let count = claimed.assignments.len();
                for assignment in claimed.assignments {
                    self.begin(assignment, kept.take());
                }
                Some(count)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                Some(0)
            }
        }
    }

    fn begin(&mut self, assignment: Assignment, slot: Slot) {
        let signals = Signals::default();
        let (attempt, fence) = (assignment.attempt, assignment.fence);
        self.held.add(attempt, fence, signals.clone());
        self.status.began();
        let span = tracing::info_span!(
            "attempt",
            run.id = %assignment.run,
            attempt.id = %attempt,
            fence = fence.0,
        );
        let site = Arc::clone(&self.site);
        self.drivers.spawn(
            async move {
                tracing::info!(adopted = assignment.adopted.is_some(), "attempt begins");
                // In a task of its own, so that a panic ends one attempt and not the worker.
                let driver = Driver::new(Arc::clone(&site), assignment, slot, signals);
                let joined = tokio::spawn(driver.drive().in_current_span()).await;
                let ended = match joined {
                    Ok(ended) => ended,
                    Err(error) => {
                        tracing::error!(%error, "the driver failed");
                        bury(&site, attempt, fence).await
                    }
                };
                tracing::info!(?ended, "attempt ends here");
                (attempt, fence, ended)
            }
            .instrument(span),
        );
    }

    fn take_end(&self, ended: Result<(tokio::task::Id, (AttemptId, Fence, Ended)), tokio::task::JoinError>) {
        match ended {
            Ok((_, (attempt, fence, ended))) => {
                self.held.remove(attempt, fence);
                self.status.ended(ended);
            }
            Err(error) => tracing::error!(%error, "a driver was lost"),
        }
    }

    /// Leases of attempts that are not at their report go back; their sandboxes live on.
    async fn hand_back(&mut self) {
        self.held.hand_off();
        let mut leases = Vec::new();
        let end = tokio::time::Instant::now() + DRAIN;
        while let Ok(Some(ended)) = tokio::time::timeout_at(end, self.drivers.join_next()).await {
            if let Ok((attempt, fence, Ended::HandedOff)) = ended {
                leases.push(Lease { attempt, fence });
            }
        }
        if leases.is_empty() {
            return;
        }
        let count = leases.len();
        match self
            .site
            .platform
            .handoff(self.registered.worker, &Handoff { leases })
            .await
        {
            Ok(()) => tracing::info!(count, "leases handed back"),
            Err(error) => tracing::warn!(%error, count, "leases could not be handed back; they expire"),
        }
    }
}

/// Closes an attempt whose driver met a bug.
async fn bury<E: Engine>(site: &Site<E>, attempt: AttemptId, fence: Fence) -> Ended {
    let cause = assay_core::cause::Cause::Internal;
    let report = Report {
        fence,
        cause,
        detail: "the screener met a bug of its own; its log has more".to_owned(),
        rewards: None,
        score: None,
        verifier_mode: None,
        ledger: Ledger::default(),
        verifier_ledger: Ledger::default(),
        usage: ResourceUse::default(),
        replayed: false,
    };
    if let Err(error) = site.platform.report(attempt, &report).await {
        tracing::error!(%error, "the report did not arrive");
        return Ended::Lost;
    }
    let name = assay_engine::SandboxRef {
        sandbox: derive::sandbox(attempt, Place::Main),
    };
    if let Err(error) = site.engine.destroy(&name).await {
        tracing::warn!(%error, "the sandbox stays for the reconciler");
    }
    Ended::Reported(cause)
}

const SHORTEST_POLL: Duration = Duration::from_millis(50);
const REGISTER_PAUSE: Duration = Duration::from_secs(1);
/// For reports under way when the worker stops.
const DRAIN: Duration = Duration::from_secs(15);
