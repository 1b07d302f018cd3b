//! Starting and stopping: the first signal drains, the second or the end of the grace aborts.

use std::{future::Future, io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Runs the task that the process is there for, until it ends. The first signal cancels the token that it was made with: accept
/// and claim nothing new. Its output; none where it was still running `grace` later or when a second signal came.
///
/// # Errors
/// When signals cannot be listened to, or the task panics.
pub async fn serve<F>(
    name: &'static str,
    grace: Duration,
    task: impl FnOnce(CancellationToken) -> F,
) -> io::Result<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let span = tracing::info_span!("task", name);
    let mut task = tokio::spawn(task(stop.clone()).instrument(span));
    // cancel-safe: receiving a signal and waiting for a task lose nothing when dropped.
    tokio::select! {
        ended = &mut task => return Ok(Some(ended?)),
        name = signals.next() => tracing::info!(signal = name, "draining"),
    }
    stop.cancel();
    tokio::select! {
        ended = &mut task => Ok(Some(ended?)),
        _ = signals.next() => Ok(None),
        () = tokio::time::sleep(grace) => Ok(None),
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
    pub fn new() -> io::Result<Self> {
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
