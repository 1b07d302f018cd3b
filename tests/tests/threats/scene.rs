//! Stages that tests share, and the comparison of an attack without and behind walls.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use assay_core::{
    control::proxy::{AuditLine, ProxyAssignment},
    money::PicoUsd,
};
use assay_tests::stage::{Outcome, Stage, Walls, sandbox};

/// An address as attacks take it.
pub(crate) use assay_tests::stage::address::{ALLOWED, EVIL, EVIL_V6, METADATA, METADATA_V6, MODEL, PRIVATE};

/// Everything but the runner: the workload is root with every right that the kernel knows.
pub(crate) const NO_RUNNER: Walls = Walls {
    runner: false,
    ..Walls::ALL
};

/// A stage that tests use one after the other.
pub(crate) struct Shared {
    walls: Walls,
    change: fn(&mut ProxyAssignment),
    stage: Mutex<Option<Stage>>,
}

/// Without walls: every attack must succeed here.
pub(crate) static OPEN: Shared = Shared::new(Walls::NONE);
/// As a sandbox is.
pub(crate) static GUARDED: Shared = Shared::new(Walls::ALL);
/// Rules and proxy, but a workload that is true root.
pub(crate) static ROOT: Shared = Shared::new(NO_RUNNER);

/// The stage while a test has it.
pub(crate) struct OnStage(MutexGuard<'static, Option<Stage>>);

impl std::ops::Deref for OnStage {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        self.0.as_ref().unwrap()
    }
}

impl Shared {
    const fn new(walls: Walls) -> Self {
        Self::with(walls, |_| {})
    }

    /// With a changed assignment of the proxy.
    pub(crate) const fn with(walls: Walls, change: fn(&mut ProxyAssignment)) -> Self {
        Self {
            walls,
            change,
            stage: Mutex::new(None),
        }
    }

    /// Takes the stage; `None`, with the reason printed, where this machine cannot have one.
    pub(crate) fn take(&'static self) -> Option<OnStage> {
        if !possible() {
            return None;
        }
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = &*stage {
            settled(stage);
        } else {
            *stage = Some(start(self.walls, self.change));
        }
        Some(OnStage(stage))
    }
}

/// Waits for what the test before has left: the proxy reads an answer to its end that nobody waits for any more, and asks
/// for the bill of one that was cut off. Whoever comes next would take these packets for its own.
fn settled(stage: &Stage) {
    let end = Instant::now() + PATIENCE;
    while let Ok(ledger) = stage.ledger()
        && (ledger.reserved, ledger.reconciling) != (PicoUsd::ZERO, 0)
    {
        assert!(
            Instant::now() < end,
            "the proxy does not come to rest: {ledger:#?}"
        );
        std::thread::yield_now();
    }
}

/// A stage of one's own, for what leaves traces; `None` where this machine cannot have one.
pub(crate) fn fresh(walls: Walls, change: impl FnOnce(&mut ProxyAssignment)) -> Option<Stage> {
    possible().then(|| start(walls, change))
}

fn start(walls: Walls, change: impl FnOnce(&mut ProxyAssignment)) -> Stage {
    let stage = Stage::start(walls, change).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(attacks())
        .arg(stage.path("attacks"))
        .status();
    assert!(copied.unwrap().success());
    stage
}

fn attacks() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/threats/attacks")
}

#[expect(clippy::print_stderr, reason = "a skipped test says what is missing")]
fn possible() -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("root".to_owned())
    } else if !Path::new(PYTHON).exists() {
        Some(PYTHON.to_owned())
    } else {
        sandbox::program("assay-proxy")
            .err()
            .map(|error| error.to_string())
    };
    if let Some(missing) = &missing {
        eprintln!("skipped: {missing}");
    }
    missing.is_none()
}

/// Runs an attack as root of the workload.
pub(crate) fn attack(stage: &Stage, name: &str, arguments: &[&str]) -> Outcome {
    attack_as(stage, None, name, arguments)
}

/// Runs an attack as some user of the workload. What it says goes to the test's output.
pub(crate) fn attack_as(stage: &Stage, user: Option<&str>, name: &str, arguments: &[&str]) -> Outcome {
    let attacks = stage.path("attacks");
    let mut argv = vec![PYTHON, "-B", attacks.to_str().unwrap(), name];
    argv.extend(arguments);
    let outcome = stage.attack(user, &argv).unwrap();
    println!("{name} {arguments:?}\n{}{}", outcome.text, outcome.errors);
    assert!(
        !outcome.errors.contains("Traceback"),
        "the attack itself is broken: {}",
        outcome.errors
    );
    outcome
}

/// An attack without walls and behind them.
pub(crate) struct Both {
    pub(crate) open: Outcome,
    pub(crate) guarded: Outcome,
}

/// Runs an attack on both stages, behind the walls as root and as an ordinary user. `None` where there are none.
pub(crate) fn both(name: &str, arguments: &[&str]) -> Option<Both> {
    let open = attack(&*OPEN.take()?, name, arguments);
    let guarded = attack(&*GUARDED.take()?, name, arguments);
    Some(Both { open, guarded })
}

/// What the audit says of the last decision that fits, once it says so: a connection is told of at its end, and the proxy
/// may learn of that a moment after the client.
pub(crate) fn audited(stage: &Stage, fits: impl Fn(&AuditLine) -> bool) -> AuditLine {
    let end = Instant::now() + PATIENCE;
    loop {
        let lines = stage.audit().unwrap();
        if let Some(line) = lines.iter().rfind(|line| fits(line)) {
            return line.clone();
        }
        assert!(Instant::now() < end, "not in the audit: {lines:#?}");
        std::thread::yield_now();
    }
}

/// How much this process asks of the machine.
static LOAD: RwLock<()> = RwLock::new(());

/// Held by whoever keeps the machine busy.
pub(crate) fn busy() -> RwLockReadGuard<'static, ()> {
    LOAD.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by whoever takes the time of something: nobody is busy meanwhile.
pub(crate) fn quiet() -> RwLockWriteGuard<'static, ()> {
    LOAD.write().unwrap_or_else(PoisonError::into_inner)
}

/// Did at least one attempt get through, by the attacker's own words?
pub(crate) fn through(outcome: &Outcome) -> bool {
    outcome.text.lines().any(|line| line.contains("through"))
}

pub(crate) const PYTHON: &str = "/usr/bin/python3";
/// The longest that a busy machine may take for something that comes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
