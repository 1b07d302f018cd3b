//! What init-iptables is told and how it ends.

use serde::{Deserialize, Serialize};

/// The file `/assay/init.json` of the init container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitConfig {
    /// Stay as the holder of the network namespace after the proof (container engines), or exit (Kubernetes).
    pub hold: bool,
    /// Which packet filter to use.
    pub backend: Backend,
    /// What is put into the volumes of the other containers before the rules are written (Kubernetes), in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub install: Vec<Install>,
}

/// One thing that is put in its place for another container of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Install {
    /// A file is copied.
    File {
        /// What is copied.
        from: String,
        /// Where it goes; what is there already is replaced.
        to: String,
        /// User and group.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// A folder is made where it is missing, and given to its owner. Files inside of it come before it.
    Folder {
        /// Which one.
        path: String,
        /// User and group.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
}

/// Which packet filter to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// `nf_tables` where the kernel has it, else iptables-legacy.
    Auto,
    /// `nf_tables` or nothing.
    Nft,
    /// iptables-legacy or nothing.
    IptablesLegacy,
}

/// The first line that init-iptables prints when the rules are proven, as JSON, before it exits or holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitReport {
    /// What was used: `nft` or `iptables_legacy`.
    pub backend: String,
    /// `proven`, or `disabled` where the family does not exist.
    pub ipv4: FamilyState,
    /// `proven`, or `disabled` where the family does not exist.
    pub ipv6: FamilyState,
    /// The digest of the ruleset in force, read back from the kernel.
    pub ruleset: String,
    /// Milliseconds for rules and proof.
    pub millis: u64,
}

/// What was found of an address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FamilyState {
    /// A token came back through the redirect.
    Proven,
    /// The family does not exist in this namespace: closed.
    Disabled,
}
