//! The holder of a network namespace: gives up every right, then waits for SIGTERM and buries what dies.

use caps::{CapSet, Capability};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::exit::Failure;

/// The signals that the holder waits for. They are blocked before the report is printed, so that none is lost between.
#[derive(Debug)]
pub struct Signals(SigSet);

impl Signals {
    /// Blocks them.
    pub fn block() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block().map_err(failed)?;
        Ok(Self(set))
    }

    /// Waits until asked to end.
    pub fn wait(&self) -> Result<(), Failure> {
        loop {
            match self.0.wait() {
                Ok(Signal::SIGCHLD) => reap()?,
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Drops every capability of every set for good. The bounding set needs `CAP_SETPCAP`; without it `no_new_privs` alone
/// keeps a later program from regaining anything.
pub fn drop_capabilities() -> Result<(), Failure> {
    prctl::set_no_new_privs().map_err(failed)?;
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed)? {
        caps::clear(None, CapSet::Bounding).map_err(failed)?;
    }
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(failed)?;
    }
    Ok(())
}

fn reap() -> Result<(), Failure> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Hold(error.to_string())
}
