//! The stage of the clients, and how one is run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use assay_tests::stage::{Image, Outcome, Stage, Walls, sandbox};
use serde::Deserialize;

use crate::list::{Client, Speaks};

/// What a client said of itself and of the answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    /// Its version.
    pub(crate) version: String,
    /// How many pieces the answer came in.
    pub(crate) pieces: usize,
    /// The answer.
    pub(crate) text: String,
}

/// One run of a client.
#[derive(Debug)]
pub(crate) struct Run {
    /// What it said; the end of what it complained about where it failed.
    pub(crate) said: Result<Said, String>,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// The shared stage with every wall, whose image trusts the sites that are passed through.
pub(crate) struct Shared(MutexGuard<'static, Option<Stage>>);

impl std::ops::Deref for Shared {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        self.0.as_ref().unwrap()
    }
}

/// Takes the stage; `None`, with the reason printed, where this machine lacks something.
pub(crate) fn take() -> Option<Shared> {
    static STAGE: Mutex<Option<Stage>> = Mutex::new(None);
    if !possible() {
        return None;
    }
    let mut stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if stage.is_none() {
        let made = Stage::start_in(Image::TrustsSites, Walls::ALL, |_| {}).unwrap();
        made.internet.publish(packages(&made)).unwrap();
        *stage = Some(made);
    }
    Some(Shared(stage))
}

/// A stage without rules and proxy, whose runner is still to be added; `None` where this machine lacks something.
pub(crate) fn unguarded() -> Option<Stage> {
    possible().then(|| Stage::start(Walls::NONE, |_| {}).unwrap())
}

/// Where the clients are installed.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("ASSAY_CLIENTS").map_or_else(PathBuf::new, PathBuf::from)
}

fn possible() -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("root".to_owned())
    } else if !folder().join("shell").is_dir() {
        Some("ASSAY_CLIENTS, see tests/clients/setup.sh".to_owned())
    } else {
        let proxy = sandbox::program("assay-proxy");
        proxy.err().map(|error| error.to_string())
    };
    if let Some(missing) = &missing {
        eprintln!("skipped: {missing}");
    }
    missing.is_none()
}

fn packages(stage: &Stage) -> PathBuf {
    let folder = stage.path("packages");
    std::fs::create_dir(&folder).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/registry.py");
    let mut made = std::process::Command::new("/usr/bin/python3");
    let made = made.arg("-B").arg(program).arg(&folder).status().unwrap();
    assert!(made.success());
    folder
}

/// What an agent is told, by the screener's own hand; the runner adds what it tells everybody. A home of the stage, so
/// that this machine's keeps as it is.
pub(crate) fn told(stage: &Stage) -> BTreeMap<String, String> {
    let mut told = assay_screener::driver::model_env();
    let home = stage.path("home");
    std::fs::create_dir_all(&home).unwrap();
    told.insert("HOME".to_owned(), home.display().to_string());
    told
}

/// Runs a client: `wanted` is `plain` or `stream`, `base` where it asks, `-` being what the environment says.
pub(crate) fn run(stage: &Stage, client: &Client, wanted: &str, base: &str) -> Run {
    run_told(stage, client, (wanted, base), &told(stage))
}

/// The same with another environment.
pub(crate) fn run_told(
    stage: &Stage,
    client: &Client,
    (wanted, base): (&str, &str),
    told: &BTreeMap<String, String>,
) -> Run {
    let argv = match client.speaks {
        Speaks::Models => client.argv(&[wanted, base]),
        Speaks::Packages => client.argv(&[base]),
    };
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let outcome = stage.told(told, None, &argv).unwrap();
    let said = match serde_json::from_str(outcome.text.trim()) {
        Ok(said) if outcome.code == Some(0) => Ok(said),
        _ => Err(format!("{}{}", outcome.text, outcome.errors)),
    };
    Run { said, outcome }
}
