//! One process with its command line, to be started again after it was killed.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// A process that may be killed. Its output is kept over all its lives.
#[derive(Debug)]
pub struct Part {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Part {
    /// Of this program; its output goes to `log`.
    pub fn new(program: &Path, log: &Path) -> Self {
        Self {
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.to_owned(),
            child: None,
        }
    }

    /// More arguments.
    pub fn args<const N: usize>(&mut self, args: [&str; N]) -> &mut Self {
        self.args.extend(args.map(OsString::from));
        self
    }

    /// One more variable of its environment.
    pub fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts it, for the first time or again.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        self.child = Some(
            command
                .spawn()
                .with_context(|| self.program.display().to_string())?,
        );
        Ok(())
    }

    /// `kill -9`, and its end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.child.take() {
            Some(mut child) => Ok(child.kill().await?),
            None => bail!("{} does not run", self.program.display()),
        }
    }

    /// Waits until it ends by itself; its exit code.
    pub async fn ended(&mut self, patience: Duration) -> anyhow::Result<Option<i32>> {
        let child = self.child.as_mut().context("it does not run")?;
        let ended = tokio::time::timeout(patience, child.wait()).await;
        let status =
            ended.with_context(|| format!("{} goes on:\n{}", self.program.display(), self.log()))??;
        self.child = None;
        Ok(status.code())
    }

    /// The end of what it printed.
    pub fn log(&self) -> String {
        tail(&self.log)
    }
}

/// The end of a file that something prints to, under the file's name.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(LOG_BYTES);
    format!("── {}\n{}", log.display(), String::from_utf8_lossy(&text[from..]))
}

/// `kill -9` of a process that is not our child.
pub(super) fn kill(pid: &str) -> anyhow::Result<()> {
    let killed = std::process::Command::new("kill").args(["-9", pid]).status()?;
    if killed.success() {
        return Ok(());
    }
    bail!("process {pid} cannot be killed");
}

/// Waits until a process has ended. One whose parent has not asked for its status yet has ended too.
pub(super) async fn gone(pid: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let state = status.lines().find(|line| line.starts_with("State:"));
        if state.is_none_or(|state| state.contains('Z')) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("process {pid} does not end");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const PATIENCE: Duration = Duration::from_mins(2);
const LOG_BYTES: usize = 6_000;
