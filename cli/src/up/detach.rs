//! `--detach` and `down`: the same program started again in the background, and ended.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    PATIENCE,
    state::{self, Lock, Running},
};
use crate::{cmd::Context, error::Error};

/// Starts this program again without a terminal and waits until it is ready.
pub(super) async fn start(context: &Context, folder: &Path) -> Result<(), Error> {
    state::make_folder(folder)?;
    drop(Lock::take(folder)?);
    Running::remove(folder);
    let log = folder.join("up.log");
    let mut options = OpenOptions::new();
    let output = options
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(|error| Error::unwritable(&log, &error))?;
    let begin = output.metadata().map_or(0, |metadata| metadata.len());
    let errors = output
        .try_clone()
        .map_err(|error| Error::unwritable(&log, &error))?;
    let program = std::env::current_exe()
        .map_err(|error| Error::Software(format!("cannot find this program: {error}")))?;
    let arguments = std::env::args_os().skip(1).map(|word| match word.to_str() {
        Some("--detach" | "-d") => "--detached".into(),
        _ => word,
    });
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let mut child = command
        .spawn()
        .map_err(|error| Error::Software(format!("cannot start in the background: {error}")))?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(running) = Running::load(folder)?.filter(|running| running.pid == child.id()) {
            return super::announce(context, &running);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Error::Unavailable(format!(
                "it did not start ({status}): {}",
                last_line(&log, begin)
            )));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Unavailable(format!(
                "it is not ready after {} s; see {}",
                PATIENCE.as_secs(),
                log.display()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks what runs in this folder to end, and waits for it. False where nothing runs.
pub(super) async fn stop(folder: &Path, running: Option<&Running>) -> Result<bool, Error> {
    if !folder.is_dir() || Lock::try_take(folder)?.is_some() {
        // The lock is the proof of life: what a killed process wrote says nothing.
        Running::remove(folder);
        return Ok(false);
    }
    let starting = || Error::Config("it is just starting or stopping; try again in a moment".to_owned());
    let pid = i32::try_from(running.ok_or_else(starting)?.pid).map_err(|_| starting())?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)
        .map_err(|error| Error::Unavailable(format!("cannot end process {pid}: {error}")))?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while Lock::try_take(folder)?.is_none() {
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Unavailable(format!(
                "process {pid} did not end within {} s",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(true)
}

fn last_line(log: &Path, begin: u64) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let new = text
        .get(usize::try_from(begin).unwrap_or(0)..)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(new).into_owned();
    let line = text.lines().last().unwrap_or("it said nothing");
    line.strip_prefix("assay: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_process_left_is_no_proof_of_life() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("running.json"), "{}").unwrap();
        assert!(!stop(folder.path(), None).await.unwrap());
        assert!(!folder.path().join("running.json").exists());
    }

    #[test]
    fn only_the_words_of_this_start_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "old\nassay: no engine answers\n").unwrap();
        assert_eq!(last_line(&log, 4), "no engine answers");
        assert_eq!(last_line(&log, 400), "it said nothing");
    }
}
