//! What three programs must agree on: users, ports, and which names a phase may reach.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The proxy's user. Its packets alone are not redirected; no process of a task can become it.
pub const PROXY_UID: u32 = 1337;

/// Ports inside a sandbox. All of ours lie in 15000 to 15099, so that tasks keep 80, 443, 8000 and 8080.
pub mod port {
    /// Other captured TCP: refused with a reason.
    pub const OTHER_TCP: u16 = 15001;
    /// The runner's control.
    pub const RUNNER: u16 = 15020;
    /// Where the runner of the first service beside main tells how it is; the others follow.
    pub const SERVICES: u16 = 15040;
    /// Captured DNS, UDP and TCP.
    pub const DNS: u16 = 15053;
    /// Captured port 80.
    pub const HTTP: u16 = 15080;
    /// The model API for agents that take a base URL, and `GET /usage`.
    pub const MODEL_API: u16 = 15088;
    /// The proxy's control.
    pub const PROXY: u16 = 15090;
    /// Captured TLS.
    pub const TLS: u16 = 15443;
    /// Of the beacon of a cluster: reached by sandboxes whose label says `agent`, and by no others.
    pub const BEACON_AGENT: u16 = 7001;
    /// Of the beacon of a cluster: reached by sandboxes whose label says `verification`, and by no others.
    pub const BEACON_VERIFY: u16 = 7002;
}

/// Where nobody lives (RFC 5737, RFC 3849). A connection of the runner to one of these must be turned to the proxy, which
/// answers with its boot id: so the two find out that the packet rules still hold.
pub const REDIRECT_PROBES: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port::PROXY),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        port::PROXY,
    ),
];

/// What a phase may reach. Everything else is refused with a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Egress {
    /// Nothing.
    None,
    /// These names, TCP 80 and 443, through the proxy.
    Hosts {
        /// The names.
        hosts: BTreeSet<HostPattern>,
    },
    /// Any name that resolves to global addresses, TCP 80 and 443, through the proxy.
    Public,
}

impl Egress {
    /// May `name` be reached?
    pub fn allows(&self, name: &HostName) -> bool {
        match self {
            Self::None => false,
            Self::Hosts { hosts } => hosts.iter().any(|pattern| pattern.matches(name)),
            Self::Public => true,
        }
    }

    /// The egress of the host set `packages`.
    pub fn packages() -> Self {
        Self::Hosts { hosts: packages() }
    }
}

/// Where the usual package managers fetch from: apt, PyPI, npm, crates, the Go proxy.
pub fn packages() -> BTreeSet<HostPattern> {
    PACKAGE_HOSTS
        .iter()
        .filter_map(|host| host.parse().ok())
        .collect()
}

/// A fully written DNS name in lower case: letters, digits, inner hyphens, at least two labels, no trailing dot, no address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// Not a DNS name.
    #[error("not a host name (want labels of a-z, 0-9 and inner hyphens, no scheme, port or path): {0:?}")]
    Malformed(String),
    /// An IP literal: hosts are reached by name only.
    #[error("{0:?} is an address; hosts are reached by name only")]
    Address(String),
    /// A wildcard over a whole registry of names.
    #[error("wildcard {0:?} is too wide")]
    TooWide(String),
}

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let name = text.to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        let is_address = labels
            .last()
            .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()) && !label.is_empty());
        if is_address || name.parse::<IpAddr>().is_ok() {
            return Err(InvalidHost::Address(text.to_owned()));
        }
        if labels.len() < 2 || name.len() > 253 || !labels.iter().all(|label| is_label(label)) {
            return Err(InvalidHost::Malformed(text.to_owned()));
        }
        Ok(Self(name))
    }
}

/// A name, `*.suffix` (exactly one label before the suffix) or `**.suffix` (one label or more).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name alone.
    Exact(HostName),
    /// One label before this suffix.
    OneLabel(HostName),
    /// One label or more before this suffix.
    AnyLabels(HostName),
}

impl HostPattern {
    /// Does the pattern cover `name`?
    pub fn matches(&self, name: &HostName) -> bool {
        let prefix = |suffix: &HostName| {
            name.0
                .strip_suffix(&suffix.0)
                .and_then(|rest| rest.strip_suffix('.'))
                .map(str::to_owned)
        };
        match self {
            Self::Exact(exact) => exact == name,
            Self::OneLabel(suffix) => prefix(suffix).is_some_and(|label| !label.contains('.')),
            Self::AnyLabels(suffix) => prefix(suffix).is_some(),
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let wildcard = |suffix: &str| {
            suffix
                .parse::<HostName>()
                .map_err(|_| InvalidHost::TooWide(text.to_owned()))
        };
        if let Some(suffix) = text.strip_prefix("**.") {
            return wildcard(suffix).map(Self::AnyLabels);
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return wildcard(suffix).map(Self::OneLabel);
        }
        if text.starts_with('*') {
            return Err(InvalidHost::TooWide(text.to_owned()));
        }
        text.parse().map(Self::Exact)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
            Self::AnyLabels(suffix) => write!(f, "**.{suffix}"),
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(HostName, HostPattern);

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

const PACKAGE_HOSTS: &[&str] = &[
    "deb.debian.org",
    "security.debian.org",
    "archive.ubuntu.com",
    "security.ubuntu.com",
    "pypi.org",
    "files.pythonhosted.org",
    "registry.npmjs.org",
    "crates.io",
    "index.crates.io",
    "static.crates.io",
    "proxy.golang.org",
    "sum.golang.org",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn wildcards_stop_at_label_borders() {
        let one: HostPattern = "*.x.com".parse().unwrap();
        let any: HostPattern = "**.x.com".parse().unwrap();
        for (host, by_one, by_any) in [
            ("a.x.com", true, true),
            ("a.b.x.com", false, true),
            ("x.com", false, false),
            ("evilx.com", false, false),
        ] {
            assert_eq!(
                (one.matches(&name(host)), any.matches(&name(host))),
                (by_one, by_any),
                "{host}"
            );
        }
    }

    #[test]
    fn names_are_strict() {
        for text in [
            "",
            "localhost",
            "a..b",
            "a.b.",
            "-a.com",
            "a_b.com",
            "a.com:443",
            "http://a.com",
            "ä.com",
            "a.com/x",
        ] {
            assert!(
                matches!(text.parse::<HostName>(), Err(InvalidHost::Malformed(_))),
                "{text}"
            );
        }
        for text in ["1.2.3.4", "::1", "10.1", "0x7f.1"] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
        assert_eq!(name("API.Example.COM").as_str(), "api.example.com");
    }

    #[test]
    fn wildcards_over_everything_are_refused() {
        for text in ["*", "*.com", "**.com", "*x.com"] {
            assert_eq!(
                text.parse::<HostPattern>(),
                Err(InvalidHost::TooWide(text.to_owned()))
            );
        }
    }

    #[test]
    fn every_package_host_is_valid() {
        assert_eq!(packages().len(), PACKAGE_HOSTS.len());
    }
}
