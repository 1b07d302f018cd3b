//! `steps`: the builder's commands one after the other, in a user namespace of their own.
//!
//! Root there is the container's root, so files keep their owners, but every capability that mounting and chroot need
//! counts in this namespace only. Without a network the steps also get an empty network namespace.
//!
//! Standard output speaks to `run`, one JSON value per line; everything else goes to standard error.

use std::{
    fs, io,
    io::{BufRead as _, Write as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use assay_core::control::build::{RunPlan, Tool, path};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::{
    buildah::{self, Purpose},
    loopback,
};

/// What `run` hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// The namespaces are made; their maps are missing.
    Unshared,
    /// Everything is done.
    Built,
    /// A command failed.
    Failed {
        /// What it was for.
        purpose: Purpose,
        /// It was killed, or said so of a step.
        killed: bool,
    },
    /// The commands could not be started.
    Broken(String),
}

/// Why the commands stop early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// One failed.
    Failed { purpose: Purpose, killed: bool },
    /// One could not be started.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Does all of it.
pub(crate) fn all(plan: &str) -> ExitCode {
    let word = work(plan).unwrap_or_else(|error| Word::Broken(error.to_string()));
    let is_good = word == Word::Built;
    if say(&word).is_ok() && is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn work(plan: &str) -> io::Result<Word> {
    let plan: RunPlan = serde_json::from_str(plan)?;
    let mut wanted = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    if !plan.network {
        wanted |= CloneFlags::CLONE_NEWNET;
    }
    unshare(wanted)?;
    say(&Word::Unshared)?;
    io::stdin().lock().read_line(&mut String::new())?;
    if !plan.network {
        loopback::up()?;
    }
    for folder in ["home", "tmp"] {
        fs::create_dir_all(format!("{}/{folder}", path::STORAGE))?;
    }
    fs::write(registries(), REGISTRIES)?;
    let made = match plan.tool {
        Tool::Buildah => buildah::make(&plan),
    };
    match made {
        Ok(()) => Ok(Word::Built),
        Err(Stop::Failed { purpose, killed }) => Ok(Word::Failed { purpose, killed }),
        Err(Stop::Io(error)) => Err(error),
    }
}

/// Runs a command, its output in the log.
pub(crate) fn run(purpose: Purpose, command: Command) -> Result<(), Stop> {
    let status = settle(command)?.status()?;
    judge(purpose, status)
}

/// Runs a command for what it prints.
pub(crate) fn read(purpose: Purpose, command: Command) -> Result<String, Stop> {
    let output = settle(command)?.stdout(Stdio::piped()).output()?;
    judge(purpose, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge(purpose: Purpose, status: ExitStatus) -> Result<(), Stop> {
    if status.success() {
        return Ok(());
    }
    let killed = status.signal().is_some() || status.code() == Some(KILLED);
    Err(Stop::Failed { purpose, killed })
}

/// Its streams, and an environment in which it believes what we have prepared.
fn settle(mut command: Command) -> io::Result<Command> {
    let log = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    let own = |folder: &str| format!("{}/{folder}", path::STORAGE);
    command
        .stdin(Stdio::null())
        .stdout(log()?)
        .stderr(log()?)
        .env("HOME", own("home"))
        .env("TMPDIR", own("tmp"))
        .env("XDG_RUNTIME_DIR", own("tmp"))
        .env("CONTAINERS_REGISTRIES_CONF", registries())
        .env("_CONTAINERS_USERNS_CONFIGURED", "done")
        .env("_CONTAINERS_ROOTLESS_UID", "0")
        .env("_CONTAINERS_ROOTLESS_GID", "0");
    Ok(command)
}

fn registries() -> String {
    format!("{}/registries.conf", path::STORAGE)
}

fn say(word: &Word) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(word)?)?;
    out.flush()
}

/// 128 + SIGKILL, as shells and builders pass it on.
const KILLED: i32 = 137;
/// A name without a host is Docker Hub's, as everywhere else here.
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n";
