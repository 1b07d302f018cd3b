//! Group J: operations. Floods, full disks, and who can end whom.

use std::time::Instant;

use assay_core::audit::End;
use assay_tests::stage::{Stage, Walls};

use crate::scene::{attack, fresh, through};

/// Resident memory of the proxy, KiB.
fn resident(stage: &Stage) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.proxy_pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn j1_twenty_thousand_connections_take_neither_memory_nor_the_place_of_others() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let before = resident(&stage);
    for (address, port) in [
        ("11.1.0.1", "443"),
        ("127.0.0.1", "15088"),
        ("127.0.0.1", "15090"),
        ("11.66.0.1", "8443"),
    ] {
        attack(&stage, "flood.connections", &[address, port, "5000"]);
    }
    assert!(stage.proxy_answer().unwrap().serving);
    assert!(
        through(&attack(&stage, "tls.fetch", &["allowed.example"])),
        "an honest client is served afterwards"
    );
    let after = resident(&stage);
    assert!(after < before + 64 * 1024, "from {before} to {after} KiB");
}

#[test]
fn j1_a_slow_head_is_given_up() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let start = Instant::now();
    let slow = attack(&stage, "flood.slow_heads", &["15443", "60"]);
    assert!(
        slow.text.contains("stopped") && start.elapsed().as_secs() < 40,
        "{}",
        slow.text
    );
}

#[test]
fn j2_a_flood_of_refusals_does_not_fill_the_audit() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    attack(&stage, "flood.denials", &["11.66.0.1", "3000"]);
    let (audit, ledger) = (stage.audit().unwrap(), stage.ledger().unwrap());
    assert!(ledger.denied >= 3000, "each is counted: {}", ledger.denied);
    assert!(audit.len() < 2000, "few are told: {}", audit.len());
    let verdict = stage.closed_audit().unwrap();
    assert_eq!((verdict.broken, verdict.end), (None, End::Closed));
    assert_eq!(
        verdict.decisions.denied, ledger.denied,
        "the counts are in the chain"
    );
}

#[test]
fn j4_hostile_bytes_end_no_proxy() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let pid = stage.proxy_pid().unwrap();
    let kinds = [
        "garbage",
        "endless",
        "zero-records",
        "truncated",
        "nul",
        "two-extensions",
        "ech",
        "ssh",
    ];
    attack(
        &stage,
        "hello.send_all",
        &[["11.1.0.1", "allowed.example"].as_slice(), kinds.as_slice()].concat(),
    );
    attack(&stage, "names.broken", &["127.0.0.1"]);
    attack(&stage, "web.endless", &["30"]);
    assert_eq!(stage.proxy_pid().unwrap(), pid, "the same process still runs");
    assert!(stage.proxy_answer().unwrap().serving);
}

#[test]
fn j6_the_workload_can_kill_neither_proxy_nor_runner() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let (root, ordinary) = (
        attack(&stage, "packets.kill_everybody", &[]),
        crate::scene::attack_as(&stage, Some("1000"), "packets.kill_everybody", &[]),
    );
    assert!(root.text.contains("kill 1") && ordinary.text.contains("kill 1"));
    assert!(stage.proxy_answer().unwrap().serving);
    assert!(through(&attack(&stage, "tls.fetch", &["allowed.example"])));
}

#[test]
fn metrics_count_each_decision() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    attack(&stage, "tls.fetch_each", &["allowed.example", "evil.example"]);
    attack(&stage, "tls.fetch", &["evil.example", "11.66.0.1"]);
    let metrics = stage.metrics().unwrap();
    let count = |kind: &str, reason: &str| {
        let fits =
            |counted: &&assay_core::control::proxy::Counted| counted.kind == kind && counted.reason == reason;
        metrics
            .decisions
            .iter()
            .find(fits)
            .map_or(0, |counted| counted.count)
    };
    assert_eq!(
        (count("tls", "spliced"), count("tls", "host_not_allowed")),
        (1, 1)
    );
    assert!(count("dns", "host_not_allowed") >= 1 && metrics.waits["hello"].counts.iter().sum::<u64>() == 2);
}

#[test]
fn the_control_plane_learns_what_the_proxy_can_connect_to() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let probed = stage
        .probe(&["11.1.0.1:443", "11.1.0.1:7001", "192.0.2.9:1"])
        .unwrap();
    assert_eq!(probed, [true, false, false]);
}
