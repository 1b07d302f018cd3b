//! Executions: what runs, what it printed, how it ended.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use assay_core::{
    control::runner::{End, Outcome, Stream, Usage},
    id::ExecId,
};
use tokio::{net::unix::pipe, sync::watch};

use self::ring::{Piece, Ring};

pub(crate) mod ring;
pub(crate) mod spawn;
pub(crate) mod stream;
pub(crate) mod supervise;

/// How many ended executions can still be asked about.
const REMEMBERED: usize = 8;

/// One execution, from its request on.
#[derive(Debug)]
pub(crate) struct Execution {
    /// Its name, chosen by the caller.
    pub(crate) id: ExecId,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    stop: watch::Sender<Option<Outcome>>,
    asked_signal: AtomicI32,
    /// The open end of its standard input.
    pub(crate) stdin: tokio::sync::Mutex<Option<pipe::Sender>>,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<i32>,
    running: Option<i32>,
    stdout: Ring,
    stderr: Ring,
    end: Option<End>,
}

impl Execution {
    fn new(id: ExecId) -> Self {
        Self {
            id,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            stop: watch::Sender::new(None),
            asked_signal: AtomicI32::new(0),
            stdin: tokio::sync::Mutex::new(None),
        }
    }

    /// One that ended before it started.
    pub(crate) fn refused(id: ExecId, outcome: Outcome, detail: &str) -> Arc<Self> {
        let execution = Self::new(id);
        execution.finish(End {
            outcome,
            exit_code: None,
            signal: None,
            detail: Some(detail.to_owned()),
            wall_ms: 0,
            usage: Usage::default(),
            stdout_bytes: 0,
            stderr_bytes: 0,
        });
        Arc::new(execution)
    }

    /// Asks it to stop for this reason. The first reason counts.
    pub(crate) fn stop(&self, reason: Outcome) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            if first {
                *stop = Some(reason);
            }
            first
        });
    }

    /// Sends a signal to its process group, while its command lives.
    pub(crate) fn signal(&self, signal: i32) -> nix::Result<()> {
        let Some(pid) = self.lock().running else {
            return Err(nix::errno::Errno::ESRCH);
        };
        crate::kill::signal_group(pid, signal)?;
        self.asked_signal.store(signal, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it has ended.
    pub(crate) fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    fn started(&self, pid: i32) {
        self.lock().pid = Some(pid);
        self.tell();
    }

    fn running(&self, pid: Option<i32>) {
        self.lock().running = pid;
    }

    /// Takes output; after the end it is read and forgotten, so that nobody who was left behind blocks on a pipe.
    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        match stream {
            Stream::Stdout => state.stdout.push(bytes),
            Stream::Stderr => state.stderr.push(bytes),
        }
        drop(state);
        self.tell();
    }

    fn finish(&self, mut end: End) {
        let mut state = self.lock();
        end.stdout_bytes = state.stdout.end();
        end.stderr_bytes = state.stderr.end();
        state.end.get_or_insert(end);
        drop(state);
        self.tell();
    }

    fn read(&self, stream: Stream, offset: u64, most: usize) -> Piece {
        let state = self.lock();
        match stream {
            Stream::Stdout => state.stdout.read(offset, most),
            Stream::Stderr => state.stderr.read(offset, most),
        }
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The executions that are known: all that run, and the last few that ended.
#[derive(Debug, Default)]
pub(crate) struct Executions {
    known: Mutex<VecDeque<Arc<Execution>>>,
}

impl Executions {
    /// The one of that name.
    pub(crate) fn find(&self, id: ExecId) -> Option<Arc<Execution>> {
        self.lock().iter().find(|known| known.id == id).map(Arc::clone)
    }

    /// The one of that name and whether it is new.
    pub(crate) fn find_or_add(&self, id: ExecId) -> (Arc<Execution>, bool) {
        if let Some(known) = self.find(id) {
            return (known, false);
        }
        let mut known = self.lock();
        let ended = known.iter().filter(|known| known.ended()).count();
        if ended >= REMEMBERED
            && let Some(oldest) = known.iter().position(|known| known.ended())
        {
            known.remove(oldest);
        }
        let execution = Arc::new(Execution::new(id));
        known.push_back(Arc::clone(&execution));
        (execution, true)
    }

    /// Asks all to stop but one.
    pub(crate) fn stop_all(&self, reason: Outcome, but: Option<ExecId>) {
        for execution in self.lock().iter().filter(|known| Some(known.id) != but) {
            execution.stop(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Execution>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
