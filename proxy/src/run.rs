//! The life of the proxy: start, serve, report, end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use assay_core::{
    clock::Clock,
    control::proxy::{AuditLine, Decision, Ledger},
    digest::hex,
    ledger::{self, Book},
    phase::EgressPhase,
};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept,
    control::{self, Control, Role},
    dns::Families,
    listen::{self, Addresses, Bound},
    model::refusal::Refusal,
    serving::{self, Serving},
    state::{self, Identity, Life, StateDir},
};

/// What the proxy starts from.
pub struct Start {
    /// The assignment: read once, then unlinked.
    pub assignment: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// Where to listen.
    pub addresses: Addresses,
    /// How long to wait for `collected` after being told to end.
    pub grace: Duration,
    /// The commit that this was built from.
    pub commit: &'static str,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// A proxy that runs.
pub struct Running {
    /// Where it serves the workload; nothing in a later life.
    pub workload: Option<Bound>,
    /// Where it answers the control plane.
    pub control: SocketAddr,
    stop: CancellationToken,
    finished: JoinHandle<()>,
}

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory or the assignment.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// The parts of a serving proxy.
    #[error(transparent)]
    Serving(#[from] serving::Error),
    /// The control interface.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
    /// A socket.
    #[error("find out where a listener is")]
    Socket(#[from] std::io::Error),
}

impl Running {
    /// Tells it to end: it serves the workload no longer, and control until everything is collected or the grace ends.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for its end.
    pub async fn finished(self) {
        if let Err(error) = self.finished.await {
            tracing::error!(%error, "the proxy ended by a panic");
        }
    }
}

/// Starts the proxy. It answers control as soon as this returns, and serves the workload in its first life.
///
/// Must run inside of a tokio runtime. Its names go into the current span, where that has fields for them.
pub fn start(start: Start) -> Result<Running, Error> {
    let state = StateDir::new(start.state);
    // Before anything is read: who cannot have the port must not take the assignment away.
    let control_listeners = listen::control(&start.addresses)?;
    let control_address = listen::first(&control_listeners)?;
    let life = state.begin(&start.assignment)?;
    let (collected, stop) = (CancellationToken::new(), CancellationToken::new());
    let boot = boot()?;
    let (identity, role, workload) = match life {
        Life::First { assignment, files } => {
            let listeners = listen::Workload::open(&start.addresses)?;
            let bound = listeners.bound()?;
            let serving = Serving::new(&assignment, files, routed_families(), &start.clock, boot.clone())?;
            let serving = Arc::new(serving);
            let taking = stop.child_token();
            accept::start(&serving, listeners, &taking);
            tokio::spawn(watch_redirect(Arc::clone(&serving), taking));
            tokio::spawn(sync_log(Arc::clone(&serving)));
            (Identity::of(&assignment), Role::Serving(serving), Some(bound))
        }
        Life::Later(identity) => {
            let (ledger, phase) = report(&state, &identity);
            let ledger = Box::new(ledger);
            (identity, Role::Reporting { ledger, phase }, None)
        }
    };
    let span = tracing::Span::current();
    span.record("sandbox.id", tracing::field::display(identity.sandbox));
    span.record("run.id", tracing::field::display(identity.run));
    span.record("fence", identity.fence.0);
    let serving = match &role {
        Role::Serving(serving) => Some(Arc::clone(serving)),
        Role::Reporting { .. } => None,
    };
    let control = Control::new(&identity, state, role, start.commit, (boot, collected.clone()))?;
    let control = Arc::new(control);
    for listener in control_listeners {
        tokio::spawn(control::serve(Arc::clone(&control), listener));
    }
    let ending = end(serving, stop.clone(), collected, start.grace);
    Ok(Running {
        workload,
        control: control_address,
        stop,
        finished: tokio::spawn(ending),
    })
}

/// Serves nobody any more once the packet rules are gone.
async fn watch_redirect(serving: Arc<Serving>, taking: CancellationToken) {
    tokio::select! {
        () = taking.cancelled() => {}
        // cancel-safe: it only waits.
        () = serving.redirect.lost() => {
            tracing::error!("the packet rules are gone; nobody is served any more");
            taking.cancel();
            serving.give_up();
        }
    }
}

fn boot() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Error::Random)?;
    Ok(hex(&random))
}

/// What is left to do once it is told to end.
async fn end(
    serving: Option<Arc<Serving>>,
    stop: CancellationToken,
    collected: CancellationToken,
    grace: Duration,
) {
    stop.cancelled().await;
    if let Some(serving) = &serving {
        serving.close().await;
    }
    if !grace.is_zero() && timeout(grace, collected.cancelled()).await.is_err() {
        tracing::warn!("nobody collected the ledger and the audit in time");
    }
    let Some(serving) = serving else { return };
    if !serving.account.catch_up() {
        tracing::error!("the last lines are not in the write-ahead log");
    }
    if let Err(error) = serving.account.log().sync() {
        tracing::error!(%error, "the write-ahead log cannot be synced");
    }
}

/// Brings the log to the disk every tenth of a second, off the path of requests, and into the log what it could not take.
async fn sync_log(serving: Arc<Serving>) {
    let mut ticks = interval(SYNC_EVERY);
    loop {
        ticks.tick().await;
        serving.account.catch_up();
        if !serving.account.log().is_unsynced() {
            continue;
        }
        let serving = Arc::clone(&serving);
        let synced = tokio::task::spawn_blocking(move || serving.account.log().sync()).await;
        if let Ok(Err(error)) = synced {
            tracing::error!(%error, "the write-ahead log cannot be synced");
        }
    }
}

/// Which families have a route. Connecting a datagram socket asks the kernel and sends nothing.
fn routed_families() -> Families {
    let has_route =
        |any: &str, far: &str| std::net::UdpSocket::bind(any).is_ok_and(|socket| socket.connect(far).is_ok());
    let v6 = has_route("[::]:0", "[2001:db8::1]:443");
    let v4 = has_route("0.0.0.0:0", "192.0.2.1:443");
    // Without any route nothing can be reached; IPv4 answers at least give a clear refusal.
    Families { v4: v4 || !v6, v6 }
}

/// What a later life can tell: the account from the log, the refusals from the audit.
fn report(state: &StateDir, identity: &Identity) -> (Ledger, EgressPhase) {
    let log_bytes = std::fs::read(state.log()).unwrap_or_default();
    let audit = state.audit().and_then(|audit| Ok((audit.whole()?, audit.end())));
    let (audit_text, audit_bytes) = audit.unwrap_or_default();
    let mut book = Book::replay(&ledger::log::read(&log_bytes));
    book.close();
    let mut ledger = Ledger {
        log_bytes: log_bytes.len() as u64,
        audit_bytes,
        ..book.ledger()
    };
    let mut phase = identity.phase;
    let lines = audit_text.split(|byte| *byte == b'\n');
    for line in lines.filter_map(|line| serde_json::from_slice::<AuditLine>(line).ok()) {
        let count = line.decisions();
        if line.decision == Decision::Deny {
            ledger.denied += count;
            if line.kind == "model" {
                ledger.refused_requests += count;
            }
            if line.reason == "budget_exhausted" {
                ledger.budget_refusals += count;
            }
            if Refusal::is_unrecorded(&line.reason) {
                ledger.unrecorded += count;
            }
        } else if line.kind == "phase" {
            phase = line.phase;
        }
    }
    (ledger, phase)
}

const SYNC_EVERY: Duration = Duration::from_millis(100);
