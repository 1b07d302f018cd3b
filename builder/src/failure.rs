//! A builder's command that failed: what is known of it, and whose fault it can be.

use crate::tail::Tail;

/// What one command of a builder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Base images to where the builder finds them.
    Import,
    /// The Dockerfile.
    Build,
    /// The result into the layout.
    Export,
}

/// What is known once nobody of the builder lives any more.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    /// What the command was for.
    pub purpose: Purpose,
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// The kernel killed something here for memory.
    pub oom: bool,
    /// The end of the log.
    pub log: &'a Tail,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The Dockerfile's, or of what it runs.
    Task,
    /// It had too little memory.
    Memory,
    /// The machine's, the builder's, or ours.
    Platform,
}

impl Failure<'_> {
    /// Was the command itself killed, or does it pass on that a step was?
    pub(crate) fn is_kill(&self) -> bool {
        matches!(self.code, None | Some(KILLED))
    }
}

/// 128 + SIGKILL, as shells and builders pass it on.
const KILLED: i32 = 137;
