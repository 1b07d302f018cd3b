//! What a submitted agent is: an immutable bundle (`tar.gz`) named by its digest, with one of four contracts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How an agent is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// One Python file `agent.py` with `agent_main(input: dict) -> str`, which returns a unified diff.
    Patch,
    /// A bundle with `agent.toml`: an install command and a run command.
    Command,
    /// Built in: runs the task's own solution. Must score 1.
    Oracle,
    /// Built in: does nothing. Must score 0.
    Nop,
}

impl Contract {
    /// The word used in SQL, JSON and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Command => "command",
            Self::Oracle => "oracle",
            Self::Nop => "nop",
        }
    }

    /// The contract of that word.
    pub fn from_name(word: &str) -> Option<Self> {
        [Self::Patch, Self::Command, Self::Oracle, Self::Nop]
            .into_iter()
            .find(|contract| contract.name() == word)
    }

    /// Does the agent bring code of its own?
    pub fn has_bundle(self) -> bool {
        matches!(self, Self::Patch | Self::Command)
    }
}

impl std::fmt::Display for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// `agent.toml`, at the root of every bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// A name for people.
    pub name: String,
    /// `patch` or `command`.
    pub contract: Contract,
    /// What to run once before the agent, in `/installed-agent`, as root, in egress phase `setup`. Argv, no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub install: Vec<String>,
    /// What the agent is (`command` only), in the task's working directory, as the task's user. Argv, no shell.
    /// The instruction is in the file that `$ASSAY_INSTRUCTION` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
    /// Environment of install and run; cannot replace what Assay sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Longest time for the install command; the platform's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_timeout_sec: Option<f64>,
    /// Longest time for the agent, if shorter than the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<f64>,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not TOML, a wrong type, an unknown key.
    #[error("agent.toml: {0}")]
    Malformed(String),
    /// The keys do not fit together.
    #[error("agent.toml: {0}")]
    Inconsistent(&'static str),
}

impl Manifest {
    /// Reads and checks `agent.toml`.
    pub fn parse(text: &str) -> Result<Self, InvalidManifest> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| InvalidManifest::Malformed(error.to_string()))?;
        let fault = match manifest.contract {
            Contract::Patch if !manifest.run.is_empty() => {
                Some("run: a patch agent is called, not run; remove the key")
            }
            Contract::Command if manifest.run.is_empty() => {
                Some("run: a command agent needs the command to run")
            }
            Contract::Oracle | Contract::Nop => {
                Some("contract: oracle and nop are built in and have no bundle")
            }
            Contract::Patch | Contract::Command => None,
        };
        match fault {
            Some(fault) => Err(InvalidManifest::Inconsistent(fault)),
            None => Ok(manifest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_what_is_missing() {
        assert!(Manifest::parse("name = 'x'\ncontract = 'command'\nrun = ['python3', 'agent.py']").is_ok());
        for (text, word) in [
            ("name = 'x'\ncontract = 'command'", "needs the command"),
            ("name = 'x'\ncontract = 'nop'", "built in"),
            ("name = 'x'\ncontract = 'patch'\nrun = ['x']", "called, not run"),
            ("name = 'x'\ncontract = 'patch'\ncolour = 1", "unknown field"),
        ] {
            assert!(
                Manifest::parse(text).unwrap_err().to_string().contains(word),
                "{text}"
            );
        }
    }
}
