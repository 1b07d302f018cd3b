//! The stored streams of an attempt: what its programs printed, and what its proxies wrote down.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{control::runner::Stream, phase::Phase};

/// One stored stream of a step. Two words name it: where it comes from, and which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Words", into = "Words")]
pub enum Channel {
    /// What the programs of a phase printed: `agent` and `stdout`.
    Printed(Phase, Stream),
    /// What a proxy wrote down: `proxy` and `audit`.
    Proxy(Sidecar, Record),
}

/// Whose proxy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sidecar {
    /// That of the agent's sandbox; its streams belong to step 0.
    Main,
    /// That of the separate verifier's sandbox of this step.
    Verifier,
}

/// What a proxy writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// One line per decision.
    Audit,
    /// The write-ahead log of the account.
    Ledger,
    /// Model calls with their bodies, where the policy consents.
    Recording,
}

/// No stream has these two words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no stream {stream:?} of {phase:?}")]
pub struct Unknown {
    phase: String,
    stream: String,
}

#[derive(Serialize, Deserialize)]
struct Words {
    phase: String,
    stream: String,
}

impl Sidecar {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Main, Self::Verifier];

    /// The word used in SQL, JSON and object keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "proxy",
            Self::Verifier => "verifier_proxy",
        }
    }
}

impl Record {
    /// All.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Ledger, Self::Recording];

    /// The word used in SQL, JSON and object keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Ledger => "ledger",
            Self::Recording => "recording",
        }
    }
}

impl Channel {
    /// The word that says where it comes from.
    pub fn phase(self) -> &'static str {
        match self {
            Self::Printed(phase, _) => phase.name(),
            Self::Proxy(sidecar, _) => sidecar.name(),
        }
    }

    /// The word that says which stream it is.
    pub fn stream(self) -> &'static str {
        match self {
            Self::Printed(_, stream) => stream.name(),
            Self::Proxy(_, record) => record.name(),
        }
    }

    /// The stream of these two words.
    pub fn from_words(phase: &str, stream: &str) -> Result<Self, Unknown> {
        let printed = Phase::from_name(phase)
            .zip(
                [Stream::Stdout, Stream::Stderr]
                    .into_iter()
                    .find(|known| known.name() == stream),
            )
            .map(|(phase, stream)| Self::Printed(phase, stream));
        let written = Sidecar::ALL.into_iter().find(|known| known.name() == phase);
        let written = written
            .zip(Record::ALL.into_iter().find(|known| known.name() == stream))
            .map(|(sidecar, record)| Self::Proxy(sidecar, record));
        printed.or(written).ok_or_else(|| Unknown {
            phase: phase.to_owned(),
            stream: stream.to_owned(),
        })
    }

    /// The key under which a worker's progress counts it.
    pub fn key(self, step: u32) -> String {
        format!("{step}/{self}")
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.phase(), self.stream())
    }
}

impl TryFrom<Words> for Channel {
    type Error = Unknown;

    fn try_from(words: Words) -> Result<Self, Unknown> {
        Self::from_words(&words.phase, &words.stream)
    }
}

impl From<Channel> for Words {
    fn from(channel: Channel) -> Self {
        Self {
            phase: channel.phase().to_owned(),
            stream: channel.stream().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_channels_and_no_others_do() {
        let printed = Phase::ALL
            .into_iter()
            .flat_map(|phase| [Stream::Stdout, Stream::Stderr].map(|stream| Channel::Printed(phase, stream)));
        let written = Sidecar::ALL
            .into_iter()
            .flat_map(|sidecar| Record::ALL.map(|record| Channel::Proxy(sidecar, record)));
        for channel in printed.chain(written) {
            assert_eq!(
                Channel::from_words(channel.phase(), channel.stream()),
                Ok(channel)
            );
            let json = serde_json::to_value(channel).unwrap();
            assert_eq!(json["phase"], channel.phase());
            assert_eq!(serde_json::from_value::<Channel>(json).unwrap(), channel);
        }
        assert!(Channel::from_words("proxy", "stdout").is_err());
        assert!(Channel::from_words("agent", "audit").is_err());
        assert_eq!(
            Channel::Proxy(Sidecar::Main, Record::Audit).key(0),
            "0/proxy/audit"
        );
    }
}
