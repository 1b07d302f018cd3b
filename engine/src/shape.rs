//! What the sandboxes of every engine have in common: rights, kernel settings, names.

use std::collections::BTreeMap;

use assay_core::id::SandboxId;

/// What main may do. Never `NET_ADMIN`, `NET_RAW`, `SYS_ADMIN` or `SYS_PTRACE`.
pub(crate) const MAIN_CAPABILITIES: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// A kernel setting of the sandbox's network: everybody may listen below 1024. A right over a network counts only in the
/// user namespace that owns it, and the workload lives in one of its own. Not every engine sets this by itself.
pub(crate) const LOW_PORTS: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");

/// The name that a sandbox has for itself: the random end of its id.
pub(crate) fn hostname(sandbox: SandboxId) -> String {
    let digits = sandbox.to_string().replace('-', "");
    format!("sandbox-{}", digits.get(20..).unwrap_or_default())
}

/// The environment of an image, from its `NAME=value` entries.
pub(crate) fn env(entries: Option<Vec<String>>) -> BTreeMap<String, String> {
    let pair = |entry: String| {
        let (name, value) = entry.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    entries.unwrap_or_default().into_iter().filter_map(pair).collect()
}

/// An amount for an engine, whose numbers have signs.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
