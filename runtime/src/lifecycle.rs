//! Starting and stopping: the first signal drains, the second or the end of the grace aborts.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// Holds the tasks of a process and tells them when to stop.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every task ended within the grace.
    Drained,
    /// Tasks were still running when the grace was over or a second signal came.
    Aborted,
}

impl Lifecycle {
    /// A new process that nobody has asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process should drain: accept and claim nothing new.
    pub fn draining(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when waiting is over.
    pub fn aborting(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Asks the process to drain, as a first signal does.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Runs a named task that the process waits for before it ends.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks
            .spawn(task.instrument(tracing::info_span!("task", name)))
    }

    /// Waits for SIGTERM, SIGINT or [`Self::stop`], then for the tasks, at most `grace`.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub async fn run(&self, grace: Duration) -> std::io::Result<Ended> {
        let mut signals = Signals::new()?;
        // cancel-safe: receiving a signal and waiting for a token lose nothing when dropped.
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "draining"),
            () = self.soft.cancelled() => tracing::info!("asked to stop: draining"),
        }
        self.soft.cancel();
        self.tasks.close();
        let ended = tokio::select! {
            () = self.tasks.wait() => Ended::Drained,
            _ = signals.next() => Ended::Aborted,
            () = tokio::time::sleep(grace) => Ended::Aborted,
        };
        self.hard.cancel();
        Ok(ended)
    }
}

/// What asks a process to end: SIGTERM and SIGINT, one after the other.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on neither signal ends the process by itself.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and names it. Dropping the wait loses no signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
