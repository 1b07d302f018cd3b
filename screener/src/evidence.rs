//! What can be known about a phase, and what the driver can be told to do.
//!
//! Everything here comes from the platform's own observations: exit states told by the runner, container states told
//! by the engine, accounts told by the proxy. Nothing that a workload prints or writes is in it, but for the reward
//! that the verifier leaves.

use std::{collections::BTreeMap, time::Duration};

use assay_core::{
    control::{proxy::Ledger, runner::End},
    phase::Phase,
};
use assay_engine::BuildOutcome;

use crate::row::{Closing, Outline, Row};

/// One observation about the phase under way.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// Somebody cancelled the run.
    Cancelled,
    /// The whole attempt is past its deadline.
    Expired,
    /// The phase is past its deadline and its uploads, and still has no end of its own.
    Overdue,
    /// The object store or the API could not be reached for too long.
    Store(String),
    /// Content that does not have the digest that names it.
    WrongDigest(Part),
    /// An archive or manifest that cannot be used.
    Unusable(Part, String),
    /// A separate verifier was asked for, and nothing can be carried to it.
    NothingToCarry(String),
    /// What the agent left for a separate verifier is more than can be carried.
    TooMuchToCarry(String),
    /// The agent left more in the sandbox than it may write.
    Overfull(String),
    /// How the build ended.
    Build(BuildOutcome),
    /// The engine could not do what was asked.
    Engine(EngineFault, String),
    /// The task is read and the image is there.
    Prepared(Outline),
    /// Runner and proxy accept work.
    Ready,
    /// The healthcheck passed.
    Healthy,
    /// The healthcheck failed for the last time.
    Unhealthy(String),
    /// A service beside main failed, in words for people.
    ServiceFailed(String),
    /// All of the setup is done.
    SetUp,
    /// An execution ended.
    Ended(Job, End),
    /// The account before and after the phase.
    Account {
        /// At the phase's start.
        before: Ledger,
        /// At its end.
        after: Ledger,
    },
    /// Runner or proxy did not answer for too long.
    Silent(String),
    /// What the engine says about the containers of the agent's sandbox.
    Sandbox(assay_engine::Evidence),
    /// The same about a verifier's own.
    VerifierSandbox(assay_engine::Evidence),
    /// The state of the platform's own diff.
    Patch(PatchState),
    /// Artifacts are stored.
    Collected,
    /// The network phase could not be switched.
    NotSwitched(String),
    /// The agent's sandbox holds on to a reward that the agent planted.
    Planted(String),
    /// The verifier left this.
    Rewarded(BTreeMap<String, f64>),
    /// The verifier left nothing.
    RewardMissing,
    /// The verifier left something that is no reward.
    RewardInvalid(String),
    /// The last uploads are done and the sandboxes are gone.
    Stored,
    /// The driver met a bug of its own.
    Bug(String),
}

/// Whose content it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The task's archive.
    Task,
    /// The agent's bundle.
    Agent,
}

/// What kind of fault an engine met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineFault {
    /// The image does not exist.
    NoImage,
    /// The image could not be built for a reason of the engine's own.
    Build,
    /// There was no room for the sandbox, or for the build of its image.
    NoRoom,
    /// Anything else.
    Other,
}

/// What was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The agent's install command.
    Install,
    /// A step's `setup.sh`.
    StepSetup,
    /// The agent.
    Agent,
    /// `git apply` of the diff on a clean tree.
    Apply,
    /// The task's tests.
    Verifier,
}

/// The state of the diff that a `patch` agent returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchState {
    /// It passed every check.
    Good,
    /// There is none.
    Missing,
    /// There is none because the bundle is no agent. The words are the sandbox's; the fault is the agent's either way.
    Unusable(String),
    /// It breaks a rule.
    Invalid(String),
}

/// What the driver does next, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Write the row before anything is done in its phase.
    Save(Box<Row>),
    /// Run the phase of the row; its findings are the next evidence.
    Run {
        /// The step.
        step: u32,
        /// The phase.
        phase: Phase,
        /// The longest that it may take.
        limit: Duration,
    },
    /// Close the attempt. The last command of every attempt.
    Report(Closing),
}
