//! Names of rows and sandboxes: one type per kind of thing, so that two kinds cannot be mixed up.
//!
//! Every id is a UUIDv7, built from a clock reading and random bytes that the caller brings.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: {0:?}")]
pub struct InvalidId(String);

/// Builds a version 7 UUID from a time and ten random bytes.
pub fn uuid_v7(now: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id from a clock reading and ten random bytes.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid_v7(now, random))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId(text.to_owned()))
            }
        }
    )*};
}

ids! {
    /// The owner of rows.
    TenantId;
    /// A submitted agent.
    AgentId;
    /// A named list of task digests.
    TaskSetId;
    /// One agent against one task set under one policy.
    EvaluationId;
    /// One (task, repeat) of an evaluation: the unit of queueing.
    RunId;
    /// One try at a run.
    AttemptId;
    /// A registered worker.
    WorkerId;
    /// An isolated place where phases run. An attempt has one, or two when its verifier is separate.
    SandboxId;
    /// One execution inside a sandbox.
    ExecId;
    /// An API key.
    KeyId;
}

/// Grows with each claim or adoption of a run. A write that carries an older fence is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_later_time_sort_later() {
        let early = RunId::new(Timestamp::from_millisecond(1_000).unwrap(), [255; 10]);
        let late = RunId::new(Timestamp::from_millisecond(1_001).unwrap(), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<RunId>().unwrap(), early);
    }

    #[test]
    fn text_that_is_no_uuid_is_refused() {
        assert!("run-1".parse::<RunId>().is_err());
    }
}
