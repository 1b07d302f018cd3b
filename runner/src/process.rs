//! What every role that stays has to do as a process: hide, confine, wait for signals, collect the dead.

use std::{os::fd::RawFd, path::Path, sync::Arc, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::getpid,
};
use serde::de::DeserializeOwned;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{isolation::Confinement, state::Runner};

/// What a role is told, from its file.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Makes the namespace of the workload, hides, and runs the role to its end.
pub(crate) fn run<F>(role: impl FnOnce(Confinement) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    close_inherited();
    // Both help only; without them the runner works as well.
    prctl::set_child_subreaper(true).ok();
    drop(std::fs::write("/proc/self/oom_score_adj", "-999"));
    // Needs to be a single thread and visible to its helper, so it comes first.
    let confinement = Confinement::establish();
    prctl::set_dumpable(false).map_err(|errno| format!("cannot hide from the workload: {errno}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let result = runtime.block_on(role(confinement));
    runtime.shutdown_background();
    result
}

/// Whatever our starter left open is not for the workload.
fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The listing's own is closed already.
        nix::unistd::close(descriptor).ok();
    }
}

/// Resolves when the container's engine asks us to end. As PID 1 we do not listen to the workload: only senders
/// outside of the namespace have no number in it.
pub(crate) fn termination() -> Result<oneshot::Receiver<()>, String> {
    let failed = |errno: Errno| format!("cannot wait for signals: {errno}");
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.thread_block().map_err(failed)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    let (sender, receiver) = oneshot::channel();
    let first = getpid().as_raw() == 1;
    // A thread, for want of a safe way to wait for this descriptor on the runtime.
    std::thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            while let Ok(signal) = signals.read_signal() {
                if signal.is_some_and(|signal| signal.ssi_pid == 0 || !first) {
                    sender.send(()).ok();
                    return;
                }
            }
        })
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    Ok(receiver)
}

/// Collects everybody who dies, for whoever waits for them.
pub(crate) fn collect_the_dead(runner: &Arc<Runner>) -> Result<(), String> {
    let mut deaths =
        signal(SignalKind::child()).map_err(|error| format!("cannot wait for signals: {error}"))?;
    let runner = Arc::clone(runner);
    tokio::spawn(async move {
        while deaths.recv().await.is_some() {
            runner.reaper.collect();
        }
    });
    Ok(())
}
