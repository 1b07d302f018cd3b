//! Ending processes for good, and collecting the dead.
//!
//! As PID 1 everything in the namespace is ours: `kill(-1)` until nobody is left. As an ordinary process (which is
//! how a developer may start it) only the descendants are, found by their parents in `/proc`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Mutex,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};
use tokio::{sync::oneshot, time::Instant};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Who waits for which process. The one place that collects the dead.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: Mutex<HashMap<i32, oneshot::Sender<Exit>>>,
}

const PAUSE: Duration = Duration::from_millis(3);
/// A process in an uninterruptible call cannot be killed; the end must be told all the same.
const LONGEST: Duration = Duration::from_secs(20);

impl Reaper {
    /// To be called right after the start of `pid`, before anything is awaited.
    pub(crate) fn watch(&self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.insert(pid, sender);
        }
        receiver
    }

    /// Collects everybody who is dead by now. False when there are no children at all.
    pub(crate) fn collect(&self) -> bool {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) => return true,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return false,
            };
            let waiting = self
                .waiting
                .lock()
                .ok()
                .and_then(|mut waiting| waiting.remove(&pid.as_raw()));
            if let Some(sender) = waiting {
                // The receiver may have been given up.
                sender.send(exit).ok();
            }
        }
    }

    /// Kills everything but this process, again and again, until nobody is left. False when somebody is after all.
    pub(crate) async fn kill_everything(&self) -> bool {
        let until = Instant::now() + LONGEST;
        loop {
            let nobody = signal_everything(Signal::SIGKILL);
            let children = self.collect();
            if nobody && !children {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Sends `signal` to a whole process group and its leader.
pub(crate) fn signal_group(leader: i32, signal: i32) -> nix::Result<()> {
    let signal = Signal::try_from(signal)?;
    let leader = Pid::from_raw(leader);
    // Before its setsid the child has no group of its own yet.
    let group = nix::sys::signal::killpg(leader, signal);
    group.or_else(|_| kill(leader, signal))
}

/// True when there was nobody to signal.
fn signal_everything(signal: Signal) -> bool {
    if getpid().as_raw() == 1 {
        return kill(Pid::from_raw(-1), signal) == Err(Errno::ESRCH);
    }
    let descendants = descendants(getpid().as_raw(), &parents());
    for pid in &descendants {
        // It may be gone already.
        kill(Pid::from_raw(*pid), signal).ok();
    }
    descendants.is_empty()
}

fn parents() -> BTreeMap<i32, i32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name stands in brackets and may hold anything; the parent is the second field after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect()
}

fn descendants(of: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = parents.iter().filter(|(_, above)| **above == parent);
        found.extend(children.map(|(pid, _)| *pid));
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::descendants;

    #[test]
    fn grandchildren_are_found_and_strangers_are_not() {
        let parents = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1), (9, 8)].into();
        assert_eq!(descendants(5, &parents), [6, 7]);
        assert_eq!(descendants(9, &parents), [0; 0]);
    }
}
