//! The parts of an attempt, in their order, and the egress that each of them has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of an attempt. Stored as (attempt, step, phase); each has its own deadline and ends with an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetch and check the archives, build the image.
    Prepare,
    /// Create the sandbox and wait until runner and proxy accept work.
    Start,
    /// The task's healthcheck.
    Health,
    /// The agent's install command, or a step's `setup.sh`.
    Setup,
    /// The agent.
    Agent,
    /// Collect hooks, artifacts, the platform's own diff.
    Collect,
    /// The task's tests.
    Verify,
    /// Last uploads; the report closes the attempt.
    Report,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 8] = [
        Self::Prepare,
        Self::Start,
        Self::Health,
        Self::Setup,
        Self::Agent,
        Self::Collect,
        Self::Verify,
        Self::Report,
    ];

    /// The word used in SQL, JSON, metrics and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Start => "start",
            Self::Health => "health",
            Self::Setup => "setup",
            Self::Agent => "agent",
            Self::Collect => "collect",
            Self::Verify => "verify",
            Self::Report => "report",
        }
    }

    /// The phase of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What decides which hosts can be reached. Several phases share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressPhase {
    /// While the image is built.
    Build,
    /// While the agent is installed; no models.
    Setup,
    /// While the agent works.
    Agent,
    /// While the verifier works.
    Verify,
}

impl EgressPhase {
    /// Every one, in order.
    pub const ALL: [Self; 4] = [Self::Build, Self::Setup, Self::Agent, Self::Verify];

    /// The word used in policies, audits and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Setup => "setup",
            Self::Agent => "agent",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for EgressPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_phases() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
            assert_eq!(
                serde_json::to_string(&phase).unwrap(),
                format!("{:?}", phase.name())
            );
        }
        assert_eq!(Phase::from_name("deploy"), None);
    }
}
