//! What the containers of a sandbox may do, the same on every engine.

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
