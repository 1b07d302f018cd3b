//! What all parts of a serving proxy share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use assay_core::{
    clock::Clock,
    control::proxy::{Ledger, Metrics, ProxyAssignment, Switch, Switched},
    egress::HostName,
};
use rustls::crypto::CryptoProvider;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    account::Account,
    audit::{Audit, Event, Kind},
    ca::{self, Authority},
    dns::Families,
    inject::Guarded,
    log::Log,
    model::{
        recorder::Recorder,
        replay::Replay,
        upstream::{self, Services},
    },
    phase::{Phases, Stage, Stale},
    redirect::Redirect,
    resolve::Resolver,
    route::{Policy, Reason},
    state::Files,
    waits::Waits,
    wildcards::Wildcards,
};

/// A serving proxy.
#[derive(Debug)]
pub struct Serving {
    /// What each phase may reach.
    pub policy: Policy,
    /// What was reached under wildcards.
    pub wildcards: Wildcards,
    /// The phase in force.
    pub phases: Phases,
    /// The money.
    pub account: Arc<Account>,
    /// The record of decisions.
    pub audit: Audit,
    /// Our own look-ups.
    pub resolver: Resolver,
    /// Which families have a route.
    pub families: Families,
    /// Certificates of the opened hosts.
    pub authority: Authority,
    /// Connections to the model services.
    pub services: Services,
    /// Connections to the hosts that get secret values.
    pub guarded: Guarded,
    /// Records model calls, where the policy consents.
    pub recorder: Option<Arc<Recorder>>,
    /// Answers model calls, where no service is to be dialled.
    pub replay: Option<Replay>,
    /// Exchanges with model services, which outlive the connections that began them.
    pub exchanges: TaskTracker,
    /// Bodies of model requests that may be judged at the same time.
    pub bodies: Semaphore,
    /// KiB of bodies that may wait for money or for the service at the same time.
    pub memory: Arc<Semaphore>,
    /// The watch over the packet rules.
    pub redirect: Redirect,
    /// How long things took.
    pub waits: Waits,
    /// The last attempt to take a connection of the workload failed, e.g. for want of descriptors.
    pub deaf: AtomicBool,
    /// Random at start; told by `/healthz` and to the watch over the packet rules.
    pub boot: String,
    clock: Wall,
}

/// The wall clock.
struct Wall(Arc<dyn Clock>);

impl std::fmt::Debug for Wall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wall")
    }
}

/// Why the proxy cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate authority.
    #[error("make the sandbox's certificate authority")]
    Authority(#[from] ca::Error),
    /// A model service cannot be set up.
    #[error("set up a model service")]
    Services(#[from] upstream::Error),
    /// The log or the audit cannot be written.
    #[error("write the first line of the log")]
    Log(#[from] std::io::Error),
}

impl Serving {
    /// Sets everything up from an assignment and the empty files of the state directory.
    pub fn new(
        assignment: &ProxyAssignment,
        files: Files,
        families: Families,
        clock: &Arc<dyn Clock>,
        boot_id: String,
    ) -> Result<Self, Error> {
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let policy = Policy::new(assignment);
        let models = assignment.upstreams.iter().map(|upstream| &upstream.host);
        let hosts: Vec<HostName> = models.cloned().collect();
        let injected = policy.injected().map(|(host, _)| host.clone());
        let opened: Vec<HostName> = hosts.iter().cloned().chain(injected).collect();
        let services = Services::new(assignment, &provider, clock)?;
        let recorder = files.recording.map(|file| {
            let secrets = hosts.iter().map(|host| services.secrets(host)).collect();
            Arc::new(Recorder::new(file, secrets, Arc::clone(clock)))
        });
        let serving = Self {
            guarded: Guarded::new(assignment, &policy, (&provider, clock))?,
            policy,
            wildcards: Wildcards::default(),
            phases: Phases::new(assignment.phase),
            account: Arc::new(Account::open(
                &assignment.purses,
                &assignment.price_version,
                Log::new(files.log, Arc::clone(clock)),
            )?),
            audit: Audit::new(files.audit, assignment.audit, Arc::clone(clock)),
            resolver: Resolver::new(
                assignment.resolvers.clone(),
                assignment.fixed_addresses.clone(),
                families,
            ),
            families,
            authority: Authority::new(&opened, clock.now(), &provider)?,
            services,
            recorder,
            replay: assignment
                .replay
                .zip(files.replay)
                .map(|(source, file)| Replay::new(source, file)),
            exchanges: TaskTracker::new(),
            bodies: Semaphore::new(BODIES),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            redirect: Redirect::default(),
            waits: Waits::default(),
            deaf: AtomicBool::new(false),
            boot: boot_id,
            clock: Wall(Arc::clone(clock)),
        };
        let started = Event::allow(Kind::Control, assignment.phase, "started");
        serving.audit.write(started);
        Ok(serving)
    }

    /// Switches the phase, cuts what is older, and writes it down.
    pub fn switch(&self, switch: Switch) -> Result<Switched, Stale> {
        let switched = self.phases.switch(switch);
        let event = match &switched {
            Ok(_) => Event::allow(Kind::Phase, switch.phase, "switched"),
            Err(_) => Event::deny(Kind::Phase, switch.phase, "stale_generation"),
        };
        self.audit.write(event);
        switched
    }

    /// Counts a connection to a name that is allowed; a wildcard does not allow names without end.
    pub fn count_name(&self, stage: Stage, host: &HostName) -> Result<(), Reason> {
        match self.policy.wildcard(stage, host) {
            Some(wildcard) => self.wildcards.admit(stage.phase, wildcard, host),
            None => Ok(()),
        }
    }

    /// Cuts every flow and serves nobody from here on: the packet rules are gone.
    pub fn give_up(&self) {
        let event = Event::deny(Kind::Control, self.phases.current().stage.phase, "redirect_lost");
        self.audit.write(event);
        self.phases.close();
    }

    /// Serves nobody any more, and ends the audit once what is under way has told its bill or has had time to.
    pub async fn close(&self) {
        self.phases.close();
        self.exchanges.close();
        if timeout(LAST_BILLS, self.exchanges.wait()).await.is_err() {
            tracing::warn!("a model service has not told a bill in time for the audit");
        }
        self.audit.close(self.phases.current().stage.phase);
    }

    /// What keeps it from serving well; stable codes.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.phases.is_closed() {
            faults.push("closed".to_owned());
        }
        if self.account.is_broken() {
            faults.push("log_broken".to_owned());
        }
        if self.audit.is_broken() {
            faults.push("audit_broken".to_owned());
        }
        if self.deaf.load(Ordering::Relaxed) {
            faults.push("listener_failing".to_owned());
        }
        if !self.authority.is_valid(self.clock.0.now()) {
            faults.push("certificates_expired".to_owned());
        }
        if self.replay.as_ref().is_some_and(|replay| !replay.is_ready()) {
            faults.push("replay_not_loaded".to_owned());
        }
        if self.resolver.is_silent() {
            faults.push("no_resolver".to_owned());
        }
        faults
    }

    /// Everything that was counted.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            decisions: self.audit.counted(),
            connections: self.phases.live(),
            waits: self.waits.read(),
            ledger: self.ledger(),
        }
    }

    /// The account with everything that others count.
    pub fn ledger(&self) -> Ledger {
        let account = self.account.ledger();
        Ledger {
            denied: self.audit.denied(),
            unrecorded: account.unrecorded + self.audit.unrecorded(),
            audit_bytes: self.audit.bytes(),
            ..account
        }
    }
}

/// Whole answers are read to their end although nobody waits for them; for the audit they need not come.
const LAST_BILLS: Duration = Duration::from_secs(2);
/// A body of 16 MiB takes some ten times that while it is judged.
const BODIES: usize = 3;
const MEMORY_KIB: usize = 48 * 1024;
