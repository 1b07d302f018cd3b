//! Group J: operations. Floods, full disks, and who can end whom.

use std::time::Instant;

use assay_core::{audit::End, control::proxy::Health, egress::PROXY_UID};
use assay_tests::stage::{Stage, Walls, sandbox::Kept};

use crate::scene::{ALLOWED, EVIL, NO_RUNNER, OPEN, attack, audited, busy, fresh, through};

/// Resident memory of the proxy, KiB, counted page by page: the sum that many kernels tell in `status` lacks what each
/// processor has not added to it yet, which may be as much as a leak is told by here.
fn resident(stage: &Stage) -> u64 {
    let pages =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", stage.proxy_pid().unwrap())).unwrap();
    let line = pages.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn j1_twenty_thousand_connections_take_neither_memory_nor_the_place_of_others() {
    let _busy = busy();
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let open = attack(
        &OPEN.take().unwrap(),
        "flood.connections",
        &["11.1.0.1", "443", "5000"],
    );
    assert!(open.text.contains("kept 5000 refused 0"), "{}", open.text);
    let before = resident(&stage);
    let targets = [
        "11.1.0.1 443",
        "127.0.0.1 15088",
        "127.0.0.1 15090",
        "11.66.0.1 8443",
    ];
    let floods = [["allowed.example", "5000"].as_slice(), &targets].concat();
    // The control plane asks meanwhile too.
    let (flood, answers) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| attack(&stage, "flood.at_once", &floods));
        let mut answers = 0;
        while !flood.is_finished() {
            answers += usize::from(stage.proxy_answer_at_once().is_ok_and(|health| health.serving));
        }
        (flood.join().unwrap(), answers)
    });
    for target in targets {
        let line = flood.text.lines().find(|line| line.starts_with(target));
        let line = line.unwrap_or_else(|| panic!("no flood of {target}: {}", flood.text));
        assert!(!line.ends_with("refused 0"), "{line}");
    }
    assert!(through(&flood), "who is connected is served: {}", flood.text);
    assert!(!flood.text.contains("pages 0 meanwhile"), "{}", flood.text);
    println!("{answers} answers to the control plane meanwhile");
    assert!(stage.proxy_answer().unwrap().serving);
    assert!(
        through(&attack(&stage, "tls.fetch", &["allowed.example"])),
        "an honest client is served afterwards"
    );
    let after = resident(&stage);
    assert!(after < before + 64 * 1024, "from {before} to {after} KiB");
}

/// Descriptors that the proxy may open beyond those that it has.
const FEW_FILES: usize = 20;

#[test]
fn j1_a_proxy_without_descriptors_says_so_and_goes_on() {
    // Without a runner, which would end the workload as soon as the proxy does not answer it.
    let Some(stage) = fresh(NO_RUNNER, |_| {}) else {
        return;
    };
    let pid = stage.proxy_pid().unwrap();
    let mut kept = stage.keep_connection().unwrap();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() + FEW_FILES;
    assert!(
        !deaf_in_flood(&stage, &mut kept),
        "so few connections are nothing to it"
    );
    // Its own user may lower it, whatever rights this machine's root has.
    let limit = format!(
        "setpriv --reuid {PROXY_UID} --regid {PROXY_UID} --clear-groups prlimit --pid {pid} --nofile={files}:{files}"
    );
    stage.operator(&limit).unwrap();
    assert!(deaf_in_flood(&stage, &mut kept), "{}", stage.log("proxy"));
    assert!(stage.log("proxy").contains("Too many open files"));
    assert!(
        through(&attack(&stage, "tls.fetch", &["allowed.example"])),
        "it takes connections again"
    );
    let health = stage.health_by(&mut kept).unwrap();
    assert!(health.serving && !is_deaf(&health), "{health:?}");
    assert_eq!(stage.proxy_pid().unwrap(), pid, "the same process still runs");
}

/// Does the proxy say that it takes nobody, while more connect than it has descriptors for?
fn deaf_in_flood(stage: &Stage, kept: &mut Kept) -> bool {
    let count = (2 * FEW_FILES).to_string();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| attack(stage, "flood.until_one_ends", &["11.1.0.1", "443", &count]));
        let mut told = false;
        while !flood.is_finished() {
            told |= is_deaf(&stage.health_by(kept).unwrap());
        }
        assert!(flood.join().unwrap().text.contains("ended"));
        told
    })
}

fn is_deaf(health: &Health) -> bool {
    health.faults.iter().any(|fault| fault == "listener_failing")
}

/// Rounds of [`churn`] before memory is looked at, and in each stretch afterwards.
const ROUNDS: u64 = 50;
/// Seconds that the churn goes on, beyond the few stretches that are always made.
const CHURN_SECONDS: &str = "ASSAY_CHURN_SECONDS";
/// What the allocator may keep for itself, KiB. A leak of 256 bytes for each connection is more than that.
const SLACK_KIB: u64 = 500;

#[test]
fn j1_memory_stays_flat_however_many_connections_come_and_go() {
    let _busy = busy();
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let seconds = std::env::var_os(CHURN_SECONDS);
    let seconds = seconds.map_or(0, |text| text.to_str().unwrap().parse().unwrap());
    // What is allocated once, and the tables that grow to their size.
    churn(&stage);
    churn(&stage);
    let (before, start) = (resident(&stage), Instant::now());
    let mut stretches = 0;
    while stretches < 4 || start.elapsed().as_secs() < seconds {
        churn(&stage);
        stretches += 1;
        println!(
            "{} KiB after {} connections",
            resident(&stage),
            stretches * ROUNDS * 10
        );
    }
    let after = resident(&stage);
    let connections = stretches * ROUNDS * 10;
    assert!(
        after < before + SLACK_KIB,
        "from {before} to {after} KiB over {connections} connections"
    );
}

/// Ten kinds of connections and requests, each as often; each must have been what it is meant to be.
fn churn(stage: &Stage) {
    let churned = attack(stage, "flood.churn", &[&ROUNDS.to_string()]);
    let done = format!("={ROUNDS}");
    assert_eq!(churned.text.matches(&done).count(), 10, "{}", churned.text);
    // The control plane asks as often as it does in a sandbox.
    assert!(stage.proxy_answer().unwrap().serving);
    stage.metrics().unwrap();
}

#[test]
fn j1_a_slow_head_is_given_up() {
    let _busy = busy();
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    // A hello has five seconds. The site itself waits for a minute.
    let open = attack(
        &OPEN.take().unwrap(),
        "flood.slow_head",
        &["11.1.0.1", "443", "10"],
    );
    assert!(through(&open), "{}", open.text);
    for (address, port) in [("11.1.0.1", "443"), ("127.0.0.1", "15443")] {
        let slow = attack(&stage, "flood.slow_head", &[address, port, "10"]);
        assert!(slow.text.contains("stopped"), "{}", slow.text);
    }
}

#[test]
fn j2_a_flood_of_refusals_does_not_fill_the_audit() {
    let _busy = busy();
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let open = attack(&OPEN.take().unwrap(), "flood.denials", &["11.66.0.1", "1"]);
    assert!(open.seen.reached(EVIL));
    attack(&stage, "flood.denials", &["11.66.0.1", "3000"]);
    let (audit, ledger) = (stage.audit().unwrap(), stage.ledger().unwrap());
    assert!(ledger.denied >= 3000, "each is counted: {}", ledger.denied);
    assert!(audit.len() < 2000, "few are told: {}", audit.len());
    let line = serde_json::to_vec(audit.last().unwrap()).unwrap().len() as u64;
    let one_by_one = ledger.denied * line;
    assert!(
        ledger.audit_bytes * 4 < one_by_one * 3,
        "a line for each would be {one_by_one} bytes, not {}",
        ledger.audit_bytes
    );
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
    let target = ["11.1.0.1", "allowed.example"].as_slice();
    let arguments = [target, kinds.as_slice()].concat();
    // Some of them leave the site waiting, hence only two.
    let open = [target, &["endless", "nul"]].concat();
    let open = attack(&OPEN.take().unwrap(), "hello.send_all", &open);
    assert!(
        open.seen.reached(ALLOWED),
        "these bytes go out where nobody reads them"
    );
    attack(&stage, "hello.send_all", &arguments);
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
    for outcome in [root, ordinary] {
        assert!(outcome.text.contains("kill 1"));
        assert!(
            outcome.text.contains("victim SIGKILL"),
            "it kills what it may: {}",
            outcome.text
        );
    }
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
    // The end of a connection is told a moment after the client's.
    audited(&stage, |line| line.reason == "spliced");
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
