//! How the program ends: one exit code per cause, so that an engine can tell them apart without reading text.

use std::process::ExitCode;

use crate::{legacy, nft, proof};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration cannot be understood.
    #[error("{path}: {source}")]
    Config {
        /// Which file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The configuration cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be put in its place for another container.
    #[error("installing {path}: {source}")]
    Install {
        /// Which file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// `nf_tables` failed.
    #[error("nf_tables: {0}")]
    Nft(#[from] nft::Error),
    /// iptables-legacy failed.
    #[error("iptables-legacy: {0}")]
    Legacy(#[from] legacy::Error),
    /// Neither filter can be used.
    #[error("no packet filter: nf_tables: {nft}; iptables-legacy: {legacy}")]
    NoFilter {
        /// What `nf_tables` lacks.
        nft: nft::Error,
        /// What iptables-legacy lacks.
        legacy: legacy::Error,
    },
    /// The rules are there but do not hold.
    #[error("proof: {0}")]
    Proof(#[from] proof::Error),
    /// The rules in force are not the expected ones.
    #[error("the rules in force have the digest {found}, not {expected}")]
    OtherDigest {
        /// What was asked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The report could not be written.
    #[error("writing the report: {0}")]
    Report(std::io::Error),
    /// The holder could not give up its rights or wait.
    #[error("holding the namespace: {0}")]
    Hold(String),
}

impl Failure {
    /// The exit code, as in [`TABLE`].
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Config { .. } => 65,
            Self::Unreadable { .. } => 66,
            Self::Install { .. } => 83,
            Self::NoFilter { .. }
            | Self::Nft(nft::Error::Missing(_))
            | Self::Legacy(legacy::Error::Missing(_)) => 69,
            Self::Nft(nft::Error::Refused { .. }) | Self::Legacy(legacy::Error::Refused(_)) => 70,
            Self::Nft(nft::Error::Netlink(_))
            | Self::Legacy(legacy::Error::Run { .. })
            | Self::Proof(proof::Error::System { .. } | proof::Error::Netlink(_)) => 71,
            Self::Nft(nft::Error::Foreign(_)) => 72,
            Self::Proof(proof::Error::PortTaken(_)) => 73,
            Self::Report(_) => 74,
            Self::Nft(nft::Error::Permission) | Self::Proof(proof::Error::Permission(_)) => 77,
            Self::Proof(proof::Error::NotCaptured { .. }) => 76,
            Self::Nft(nft::Error::Differs(_))
            | Self::Legacy(legacy::Error::Differs(_))
            | Self::OtherDigest { .. } => 78,
            Self::Proof(proof::Error::ExemptCaptured { .. }) => 79,
            Self::Proof(proof::Error::UdpPassed(_)) => 80,
            Self::Proof(proof::Error::NoFamily) => 81,
            Self::Hold(_) => 82,
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code())
    }
}

/// All exit codes, as `--help` shows them.
pub const TABLE: &str = "\
  0  the rules are in force and proven
 64  wrong command line
 65  the configuration cannot be understood
 66  the configuration cannot be read
 69  no usable packet filter; the missing feature is named
 70  the kernel refused a rule
 71  a system call failed
 72  a foreign address translation comes before ours
 73  a port of the proxy is taken, so nothing can be proven
 74  the report cannot be written
 76  a connection was not captured
 77  no permission (CAP_NET_ADMIN or CAP_SETUID is missing)
 78  the rules in force are not the planned or expected ones
 79  a connection of the proxy was captured
 80  UDP to port 443 was let out
 81  no address family has a loopback address
 82  the holder could not give up its rights
 83  a file could not be put in its place for another container";
