//! Group B: getting round the redirect.

use std::time::{Duration, Instant};

use assay_core::{egress::port, phase::EgressPhase};
use assay_tests::stage::{Outcome, Stage, Transport, Walls, internet::Mark};

use crate::scene::{
    ALLOWED, EVIL, EVIL_V6, GUARDED, NO_RUNNER, OPEN, PRIVATE, PYTHON, ROOT, attack, attack_as, both, fresh,
    quiet, through,
};

/// What succeeds as true root behind the rules, and what is left of it under the runner, for root and an ordinary user.
fn only_as_true_root(name: &str, arguments: &[&str]) -> Option<(Outcome, Outcome)> {
    let root = attack(&*ROOT.take()?, name, arguments);
    let guarded = attack(&*GUARDED.take()?, name, arguments);
    Some((root, guarded))
}

#[test]
fn b1_nobody_becomes_the_proxys_user() {
    let evil = EVIL.to_string();
    let Some((root, guarded)) = only_as_true_root("packets.become", &["1337", &evil]) else {
        return;
    };
    assert!(root.seen.visited(EVIL), "as user 1337 the attack gets out");
    assert!(guarded.text.contains("stopped setuid") && !guarded.seen.reached(EVIL));
}

#[test]
fn b2_a_setuid_file_of_the_proxys_user_gives_nothing() {
    for (stage, escapes) in [(&ROOT, true), (&GUARDED, false)] {
        let Some(stage) = stage.take() else { return };
        let file = stage.path("python1337");
        stage
            .operator(&format!(
                "cp {PYTHON} {0} && chown 1337 {0} && chmod 4755 {0}",
                file.display()
            ))
            .unwrap();
        let arguments = [file.to_str().unwrap(), &EVIL.to_string()];
        let outcome = attack_as(&stage, Some("1000"), "packets.use_file", &arguments);
        assert_eq!(outcome.text.contains("euid 1337"), escapes);
        assert_eq!(outcome.seen.reached(EVIL), escapes);
    }
}

#[test]
fn b3_root_cannot_make_such_a_file() {
    for (stage, escapes) in [(&ROOT, true), (&GUARDED, false)] {
        let Some(stage) = stage.take() else { return };
        let target = stage.path("made1337");
        let arguments = [PYTHON, target.to_str().unwrap(), "1337", &EVIL.to_string()];
        let outcome = attack(&stage, "packets.set_user_file", &arguments);
        assert_eq!(outcome.text.contains("through chown"), escapes);
        assert_eq!(outcome.seen.reached(EVIL), escapes);
    }
}

#[test]
fn b4_an_image_cannot_start_as_the_proxys_user() {
    let Some(stage) = ROOT.take() else { return };
    let arguments = [EVIL.to_string(), "443".to_owned()];
    let arguments = arguments.each_ref().map(String::as_str);
    assert!(
        attack_as(&stage, Some("1337"), "packets.tcp", &arguments)
            .seen
            .visited(EVIL)
    );
    drop(stage);
    let stage = GUARDED.take().unwrap();
    for user in ["1337", "1337:0", "0:1337"] {
        let refused = attack_as(&stage, Some(user), "packets.tcp", &arguments);
        assert!(
            refused.errors.contains("SpawnFailed") && !refused.seen.reached(EVIL),
            "{user}"
        );
    }
}

#[test]
fn b5_a_user_namespace_that_maps_the_proxys_user_gives_nothing() {
    let evil = EVIL.to_string();
    let Some((root, guarded)) = only_as_true_root("packets.namespace", &[&evil]) else {
        return;
    };
    assert!(
        root.text.contains("through unshare") && !root.seen.reached(EVIL),
        "the rules look at the real user"
    );
    assert!(guarded.text.contains("stopped unshare") && !guarded.seen.reached(EVIL));
    assert!(
        attack(&OPEN.take().unwrap(), "packets.namespace", &[&evil])
            .seen
            .reached(EVIL)
    );
}

#[test]
fn b6_no_mark_on_a_socket_exempts_it() {
    for number in ["0x1337", "0x15020"] {
        let arguments = [EVIL.to_string(), number.to_owned()];
        let arguments = arguments.each_ref().map(String::as_str);
        let Some((root, guarded)) = only_as_true_root("packets.mark", &arguments) else {
            return;
        };
        assert!(!root.seen.reached(EVIL) && !guarded.seen.reached(EVIL));
        assert!(guarded.text.contains("stopped mark"));
        assert!(
            attack(&OPEN.take().unwrap(), "packets.mark", &arguments)
                .seen
                .reached(EVIL)
        );
    }
}

#[test]
fn b7_the_rules_cannot_be_flushed_and_a_proxy_without_them_serves_nobody() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let evil = EVIL.to_string();
    let inside = attack(&stage, "packets.flush_rules", &[&evil]);
    assert!(inside.text.contains("stopped") && !inside.seen.reached(EVIL));
    // Somebody with the right to do it takes the rules away.
    stage.operator("nft flush ruleset").unwrap();
    stage.until_unprotected().unwrap();
    let audit = stage.audit().unwrap();
    assert!(
        audit.iter().any(|line| line.reason == "redirect_lost"),
        "{audit:#?}"
    );
}

#[test]
fn b7_the_workload_ends_within_two_seconds_of_the_rules() {
    let _quiet = quiet();
    // Without anybody who looks the workload gets out.
    let Some(unwatched) = fresh(NO_RUNNER, |_| {}) else {
        return;
    };
    let evil = EVIL.to_string();
    let connect = || attack(&unwatched, "packets.tcp", &[&evil, "8443"]);
    assert!(!connect().seen.reached(EVIL));
    unwatched.operator("nft flush ruleset").unwrap();
    assert!(connect().seen.reached(EVIL));
    // All rules, and the redirection alone: then the filter still holds.
    for loss in ["nft flush ruleset", "nft flush chain inet assay nat_output"] {
        let stage = fresh(Walls::ALL, |_| {}).unwrap();
        let begun = stage.path("begun");
        let work = format!("touch {} && sleep 60", begun.display());
        let killed = std::thread::scope(|scope| {
            let work = scope.spawn(|| stage.attack(None, &["sh", "-c", &work]).unwrap());
            while !begun.exists() {
                assert!(!work.is_finished(), "the workload has not begun");
            }
            let lost = Instant::now();
            stage.operator(loss).unwrap();
            let outcome = work.join().unwrap();
            assert!(outcome.errors.contains("ProxyLost"), "{loss}: {}", outcome.errors);
            lost.elapsed()
        });
        assert!(killed < Duration::from_secs(2), "{loss}: {killed:?}");
        assert!(!is_run(&stage), "the runner takes nothing more");
    }
}

#[test]
fn b8_no_frame_is_written_past_the_rules() {
    let arguments = [EVIL.to_string(), "frame-token".to_owned()];
    let arguments = arguments.each_ref().map(String::as_str);
    for attempt in ["packets.frame", "packets.raw"] {
        let Some(open) = OPEN.take().map(|stage| attack(&stage, attempt, &arguments)) else {
            return;
        };
        assert!(open.seen.carries("frame-token"));
        let stage = GUARDED.take().unwrap();
        for user in [None, Some("1000")] {
            let guarded = attack_as(&stage, user, attempt, &arguments);
            assert!(guarded.text.contains("stopped") && !guarded.seen.carries("frame-token"));
        }
    }
    let root = attack(&ROOT.take().unwrap(), "packets.frame", &arguments);
    assert!(
        root.seen.carries("frame-token"),
        "it is the runner that closes this, not the rules"
    );
}

#[test]
fn b9_ipv6_is_captured_too() {
    let address = EVIL_V6.to_string();
    for ports in [["443", "80"], ["8443", "22"]] {
        let Some(both) = both("packets.tcp", &[&[address.as_str()], ports.as_slice()].concat()) else {
            return;
        };
        assert!(both.open.seen.visited(EVIL_V6));
        assert!(!both.guarded.seen.reached(EVIL_V6));
    }
    let Some(both) = both("tls.fetch", &["allowed.example", &address]) else {
        return;
    };
    assert!(both.open.seen.visited(EVIL_V6) && both.guarded.seen.visited(ALLOWED));
}

#[test]
fn b10_every_other_port_is_refused() {
    let ports = [
        "1", "22", "25", "53", "123", "853", "1337", "3128", "5432", "8080", "8443", "15443", "65535",
    ];
    let evil = EVIL.to_string();
    let Some(both) = both("packets.tcp", &[&[evil.as_str()], ports.as_slice()].concat()) else {
        return;
    };
    for port in ports {
        assert!(
            both.open
                .seen
                .reached_port(EVIL, Transport::Tcp, port.parse().unwrap()),
            "{port}"
        );
    }
    assert!(!both.guarded.seen.reached(EVIL) && !through(&both.guarded));
}

#[test]
fn b11_quic_is_refused_at_once() {
    for address in [EVIL.to_string(), EVIL_V6.to_string()] {
        let Some(both) = both("packets.udp", &[&address, "443", "quic-token"]) else {
            return;
        };
        assert!(both.open.seen.carries("quic-token"));
        assert!(!both.guarded.seen.carries("quic-token"));
        assert!(both.guarded.text.contains("stopped"), "the sender is told");
    }
}

#[test]
fn b12_private_addresses_are_no_exception() {
    let private = PRIVATE.to_string();
    let Some(both) = both("packets.tcp", &[&private, "443", "80", "22"]) else {
        return;
    };
    assert!(both.open.seen.visited(PRIVATE));
    assert!(!both.guarded.seen.reached(PRIVATE));
    let stage = GUARDED.take().unwrap();
    assert!(
        !attack(&stage, "tls.fetch", &["private.example", &private])
            .seen
            .reached(PRIVATE)
    );
    assert!(
        !attack(&stage, "packets.udp", &[&private, "53", "token"])
            .seen
            .reached(PRIVATE)
    );
}

#[test]
fn b13_nothing_runs_before_rules_and_proxy() {
    let runner = |stage: &mut Stage| {
        stage
            .begin_runner(Some(([127, 0, 0, 1], port::PROXY).into()))
            .unwrap();
    };
    // The proxy comes first: it serves, and nothing leads to it.
    let Some(mut stage) = fresh(Walls::NONE, |_| {}) else {
        return;
    };
    assert!(is_run(&stage), "without a runner nobody waits");
    stage.add_proxy().unwrap();
    runner(&mut stage);
    stage.until_waiting_for("packet rules do not lead").unwrap();
    assert!(!is_run(&stage), "before the rules");
    let rules = stage.path("rules");
    let rules = rules.display();
    let ruled = fresh(NO_RUNNER, |_| {}).unwrap();
    ruled.operator(&format!("nft list ruleset > {rules}")).unwrap();
    stage.operator(&format!("nft -f {rules}")).unwrap();
    stage.until_ready().unwrap();
    assert!(is_run(&stage));
    // The rules come first: they lead to nobody.
    let mut stage = fresh(Walls::NONE, |_| {}).unwrap();
    stage.write_rules().unwrap();
    runner(&mut stage);
    stage.until_waiting_for("proxy does not answer").unwrap();
    assert!(!is_run(&stage), "before the proxy");
    stage.add_proxy().unwrap();
    stage.until_ready().unwrap();
    assert!(is_run(&stage));
}

#[test]
fn b13_nothing_runs_after_the_proxy() {
    let Some(mut stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    assert!(is_run(&stage));
    stage.kill_proxy().unwrap();
    stage.until_idle().unwrap();
    assert!(!is_run(&stage), "without a proxy no phase is taken");
    stage.start_proxy().unwrap();
    assert!(!stage.proxy_answer().unwrap().serving, "a later life reports");
    assert!(!is_run(&stage), "and does not count");
}

/// Does the sandbox take a phase, and does it come to its end?
fn is_run(stage: &Stage) -> bool {
    stage
        .attack(None, &["true"])
        .is_ok_and(|outcome| outcome.code == Some(0))
}

/// Has somebody asked twice over there? The first request was answered then, and the attacker knows it.
fn is_held(stage: &Stage, mark: Mark) -> bool {
    let seen = stage.internet.since(mark).unwrap();
    let requests = seen
        .visits
        .iter()
        .filter(|visit| visit.site == EVIL && !visit.text.is_empty());
    requests.count() > 1
}

#[test]
fn b14_flows_of_an_earlier_phase_are_cut() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    stage.switch(EgressPhase::Setup).unwrap();
    let evil = "evil.example".to_owned();
    let held = std::thread::scope(|scope| {
        let mark = stage.internet.mark().unwrap();
        let attack = scope.spawn(|| attack(&stage, "packets.hold", &[&evil, "80"]));
        while !is_held(&stage, mark) {
            assert!(!attack.is_finished(), "everything public was allowed");
        }
        stage.switch(EgressPhase::Agent).unwrap();
        attack.join().unwrap()
    });
    assert!(held.text.contains("through held"));
    assert!(held.text.contains("stopped"), "{}", held.text);
}

#[test]
fn b14_a_connection_from_before_the_rules_is_cut() {
    let Some(stage) = fresh(Walls::NONE, |_| {}) else {
        return;
    };
    let held = std::thread::scope(|scope| {
        let mark = stage.internet.mark().unwrap();
        let attack = scope.spawn(|| {
            let attacks = stage.path("attacks");
            let argv = [
                PYTHON,
                "-B",
                attacks.to_str().unwrap(),
                "packets.hold",
                &EVIL.to_string(),
                "8443",
            ];
            stage.attack(None, &argv).unwrap()
        });
        while !is_held(&stage, mark) {
            assert!(!attack.is_finished());
        }
        stage.write_rules().unwrap();
        attack.join().unwrap()
    });
    assert!(held.text.contains("through held"));
    assert!(held.text.contains("stopped"), "{}", held.text);
}

#[test]
fn b15_rules_written_three_times_are_the_same() {
    let Some(stage) = fresh(
        Walls {
            rules: true,
            ..Walls::NONE
        },
        |_| {},
    ) else {
        return;
    };
    let list = |stage: &Stage| stage.operator("nft -s list ruleset").unwrap();
    let once = list(&stage);
    stage.write_rules().unwrap();
    stage.write_rules().unwrap();
    assert_eq!(once, list(&stage));
}

#[test]
fn b16_a_foreign_redirect_before_ours_is_refused() {
    let Some(stage) = fresh(
        Walls {
            rules: true,
            ..Walls::NONE
        },
        |_| {},
    ) else {
        return;
    };
    stage
        .operator("nft add table ip x; nft add chain ip x y '{ type nat hook output priority -150; }'")
        .unwrap();
    let refused = stage.write_rules().unwrap_err().to_string();
    assert!(
        refused.contains("foreign") || refused.contains("before"),
        "{refused}"
    );
}
