//! What all parts of the runner share.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::{
        runner::{Health, Outcome, RunnerConfig},
        signature::{Claim, Gate, Refusal},
    },
    digest::{Digest, hex},
    id::ExecId,
    version,
    wire::WIRE,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{cgroup::Cgroup, exec::Executions, isolation::Confinement, kill::Reaper, services::Services};

/// Whether work is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Not yet, and what is waited for.
    Waiting(String),
    /// Yes.
    Ready,
    /// Never again: the proxy or the packet rules are gone; which of them.
    ProxyLost(&'static str),
}

/// The runner.
#[derive(Debug)]
pub(crate) struct Runner {
    /// What it was told at creation.
    pub(crate) config: RunnerConfig,
    /// Random at start.
    boot: String,
    began: Instant,
    /// The same moment by the clock that stamps files, since the epoch.
    pub(crate) since: Duration,
    gate: Mutex<Gate>,
    readiness: watch::Sender<Readiness>,
    trust: Mutex<BTreeMap<String, String>>,
    /// The containers beside this one.
    pub(crate) services: Services,
    /// How children are confined.
    pub(crate) confinement: Confinement,
    /// Collects the dead.
    pub(crate) reaper: Reaper,
    /// Usage and limits.
    pub(crate) cgroup: Cgroup,
    /// What runs and what ran.
    pub(crate) executions: Executions,
    /// Held while everybody is killed, and while somebody is started.
    pub(crate) killing: tokio::sync::Mutex<()>,
    /// Told when the runner is to end.
    pub(crate) shutdown: Notify,
}

/// The runner cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configuration's key is none.
    #[error("public_key is not an ed25519 key in hexadecimal")]
    Key,
    /// The kernel gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Runner {
    /// With a fresh boot id. The clock of signatures starts now.
    pub(crate) fn new(config: RunnerConfig, confinement: Confinement) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let boot = hex(&random);
        let gate =
            Gate::new(&config.public_key, config.sandbox, boot.clone(), config.fence).ok_or(Error::Key)?;
        let readiness = if config.proxy {
            Readiness::Waiting("the proxy has not answered yet".to_owned())
        } else {
            Readiness::Ready
        };
        Ok(Self {
            services: Services::new(&config.services),
            config,
            boot,
            began: Instant::now(),
            since: Duration::try_from(SystemClock.now().as_duration()).unwrap_or_default(),
            gate: Mutex::new(gate),
            readiness: watch::Sender::new(readiness),
            trust: Mutex::default(),
            confinement,
            reaper: Reaper::default(),
            cgroup: Cgroup::of_self(),
            executions: Executions::default(),
            killing: tokio::sync::Mutex::default(),
            shutdown: Notify::new(),
        })
    }

    /// The answer of `/healthz`.
    pub(crate) fn health(&self) -> Health {
        let readiness = self.readiness();
        let reason = match &readiness {
            Readiness::Waiting(reason) => Some(reason.clone()),
            Readiness::Ready => self.confinement.reason.clone(),
            Readiness::ProxyLost(reason) => Some((*reason).to_owned()),
        };
        Health {
            boot: self.boot.clone(),
            monotonic_ms: self.monotonic_ms(),
            wire: WIRE,
            commit: version::BAKED_COMMIT.to_owned(),
            ready: readiness == Readiness::Ready,
            reason,
            isolation: self.confinement.isolation(),
            services: self.services.health(),
        }
    }

    /// Checks a request's signature.
    pub(crate) fn admit(&self, header: &str, method: &str, path: &str) -> Result<Claim, Refusal> {
        self.gate().admit(self.monotonic_ms(), header, method, path)
    }

    /// Checks the signed trailer of a stream.
    pub(crate) fn admit_content(&self, nonce: &str, trailer: &str, arrived: &Digest) -> Result<(), Refusal> {
        self.gate().admit_content(nonce, trailer, arrived)
    }

    /// Whether work is taken. None is before the containers beside this one are up.
    pub(crate) fn readiness(&self) -> Readiness {
        let own = self.readiness.borrow().clone();
        match (own, self.services.missing()) {
            (Readiness::Ready, Some(reason)) => Readiness::Waiting(reason),
            (own, _) => own,
        }
    }

    /// Changes whether work is taken.
    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
    }

    /// Waits until proxy and packet rules are there; for ever where they are lost.
    pub(crate) async fn guarded(&self) {
        let mut readiness = self.readiness.subscribe();
        // The sender is this very object.
        drop(readiness.wait_for(|now| *now == Readiness::Ready).await);
    }

    /// The variables that make clients trust the proxy's root; none without a proxy.
    pub(crate) fn trust_variables(&self) -> BTreeMap<String, String> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets these variables.
    pub(crate) fn set_trust_variables(&self, variables: BTreeMap<String, String>) {
        *self.trust.lock().unwrap_or_else(PoisonError::into_inner) = variables;
    }

    /// Kills everything that is not the runner; every execution but one ends for this reason. False when somebody
    /// could not be killed.
    pub(crate) async fn kill_everything(&self, reason: Outcome, but: Option<ExecId>) -> bool {
        let _nobody_starts = self.killing.lock().await;
        self.executions.stop_all(reason, but);
        self.reaper.kill_everything().await
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
