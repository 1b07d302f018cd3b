//! What init-iptables is told and how it ends.

use serde::{Deserialize, Serialize};

/// The file `/assay/init.json` of the init container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitConfig {
    /// Stay as the holder of the network namespace after the proof (container engines), or exit (Kubernetes).
    pub hold: bool,
    /// Which packet filter to use.
    pub backend: Backend,
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
