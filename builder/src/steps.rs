//! `steps`: the builder's commands one after the other, in a user namespace of their own.
//!
//! Root there is the container's root, so files keep their owners, but every capability that mounting and chroot need
//! counts in this namespace only. Without a network the steps also get an empty network namespace.
//!
//! Standard output speaks to `run`, one JSON value per line; everything else goes to standard error.

use std::{
    io,
    io::{BufRead as _, Write as _},
    os::fd::AsFd as _,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use assay_core::control::build::{RunPlan, Tool};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::{buildah, failure::Purpose, kaniko, loopback};

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
        /// Its exit code; none where a signal ended it.
        code: Option<i32>,
    },
    /// The commands could not be started.
    Broken(String),
}

/// Why the commands stop early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// One failed.
    Failed { purpose: Purpose, code: Option<i32> },
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
    let made = match plan.tool {
        Tool::Buildah => buildah::make(&plan),
        Tool::Kaniko => kaniko::make(&plan),
    };
    match made {
        Ok(()) => Ok(Word::Built),
        Err(Stop::Failed { purpose, code }) => Ok(Word::Failed { purpose, code }),
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
    Err(Stop::Failed {
        purpose,
        code: status.code(),
    })
}

/// Everything that it says goes into the log.
fn settle(mut command: Command) -> io::Result<Command> {
    let log = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
    Ok(command)
}

fn say(word: &Word) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(word)?)?;
    out.flush()
}
