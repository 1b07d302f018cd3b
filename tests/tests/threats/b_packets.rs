//! Group B, the rest: who can look into the proxy, its death, and the odd packets.

use assay_tests::stage::Outcome;

use crate::scene::{
    ALLOWED, EVIL, EVIL_V6, GUARDED, NO_RUNNER, OPEN, PATIENCE, PRIVATE, PYTHON, ROOT, attack, both, fresh,
    through,
};

#[test]
fn b19_the_proxy_cannot_be_seen_or_read() {
    let Some(stage) = GUARDED.take() else { return };
    let seen = attack(&stage, "packets.processes", &[]);
    assert!(seen.text.contains("assay-runner") && !seen.text.contains("assay-proxy"));
    let state = stage.path("proxy/state/identity.json");
    let state = state.to_str().unwrap();
    assert!(std::path::Path::new(state).exists());
    assert_ne!(
        stage.attack(None, &["cat", state]).unwrap().code,
        Some(0),
        "another file system"
    );
    drop(stage);
    // Even who sees the process and has its user cannot look into it.
    let stage = ROOT.take().unwrap();
    let pid = stage.proxy_pid().unwrap();
    let look = |pid: u32| {
        let line = format!(
            "setpriv --reuid 1337 --regid 1337 --clear-groups cat /proc/{pid}/environ /proc/{pid}/maps"
        );
        stage.operator(&line)
    };
    // A shell that is read by what it starts.
    let ordinary =
        "setpriv --reuid 1337 --regid 1337 --clear-groups sh -c 'cat /proc/$$/environ /proc/$$/maps; true'";
    assert!(
        stage.operator(ordinary).unwrap().contains("[stack]"),
        "an ordinary process can be read"
    );
    assert!(look(pid).is_err());
}

#[test]
fn b21_after_the_proxys_death_nothing_gets_out() {
    let Some(mut stage) = fresh(NO_RUNNER, |_| {}) else {
        return;
    };
    let (evil, evil_v6) = (EVIL.to_string(), EVIL_V6.to_string());
    assert!(through(&attack(&stage, "tls.fetch", &["allowed.example"])));
    stage.kill_proxy().unwrap();
    for (name, arguments) in [
        (
            "packets.tcp",
            [evil.as_str(), "443", "80", "22", "8443"].as_slice(),
        ),
        ("packets.tcp", &[&evil_v6, "443", "80", "8443"]),
        ("packets.udp", &[&evil, "443", "dead-token"]),
        ("packets.udp", &[&evil, "53", "dead-token"]),
        ("packets.ping", &[&evil, "dead-token"]),
        ("names.ask", &[&evil, "TXT", "dead-token.evil.example"]),
        ("names.resolve", &["allowed.example", "dead-token.evil.example"]),
        ("tls.fetch", &["allowed.example", "11.1.0.1"]),
    ] {
        let outcome = attack(&stage, name, arguments);
        let outside = |address: std::net::IpAddr| outcome.seen.reached(address);
        assert!(
            !outside(EVIL.into()) && !outside(EVIL_V6.into()) && !outside(ALLOWED.into()),
            "{name}"
        );
        assert!(
            !outcome.seen.carries("dead-token") && outcome.seen.questions.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn b21_nobody_answers_in_a_dead_proxys_place() {
    let Some(mut stage) = fresh(NO_RUNNER, |_| {}) else {
        return;
    };
    stage.kill_proxy().unwrap();
    let script = "import socket,threading
s = socket.create_server(('0.0.0.0', 15090)); s.settimeout(3)
try: s.accept(); print('came')
except TimeoutError: print('nobody')";
    std::thread::scope(|scope| {
        let impostor = scope.spawn(|| stage.attack(Some("1000"), &[PYTHON, "-c", script]).unwrap());
        while !impostor.is_finished() {
            assert!(
                stage.proxy_answer_at_once().is_err(),
                "somebody else answered on the proxy's port"
            );
        }
        assert!(!impostor.join().unwrap().errors.contains("Traceback"));
    });
}

#[test]
fn b22_a_redirected_connection_is_let_through_to_the_proxy() {
    for name in ["tls.fetch", "web.plain"] {
        let Some(both) = both(name, &["allowed.example"]) else {
            return;
        };
        assert!(through(&both.open) && through(&both.guarded));
    }
}

#[test]
fn b23_what_is_left_of_a_closed_connection_still_arrives() {
    for stage in [&OPEN, &GUARDED] {
        let Some(stage) = stage.take() else { return };
        let mark = stage.internet.mark().unwrap();
        assert!(through(&attack(
            &stage,
            "tls.upload",
            &["allowed.example", "2097152"]
        )));
        // The attack has closed its side; what it wrote is still on its way.
        let end = std::time::Instant::now() + PATIENCE;
        while arrived(&stage.internet.since(mark).unwrap()) < 2_097_152 {
            assert!(std::time::Instant::now() < end, "the rest is lost");
        }
    }
}

/// Bytes that went to the allowed host.
fn arrived(seen: &assay_tests::stage::internet::Seen) -> usize {
    let to_host = seen
        .packets
        .iter()
        .filter(|packet| packet.to == ALLOWED && packet.to_port == 443);
    to_host.map(|packet| packet.payload.len()).sum()
}

#[test]
fn b24_icmp_fragments_options_fast_open_and_other_protocols_stay_inside() {
    let evil = EVIL.to_string();
    for (name, arguments) in [
        ("packets.ping", [evil.as_str(), "odd-token"].as_slice()),
        ("packets.ping", &[&EVIL_V6.to_string(), "odd-token"]),
        ("packets.udp", &[&evil, "9999", "odd-token", "20000"]),
        ("packets.udp_lite", &[&evil, "odd-token"]),
        ("packets.fast_open", &[&evil, "odd-token"]),
        ("packets.options", &[&evil]),
    ] {
        let Some(both) = both(name, arguments) else { return };
        let outside = |outcome: &Outcome| outcome.seen.reached(EVIL) || outcome.seen.reached(EVIL_V6);
        assert!(outside(&both.open), "{name}: the attack itself does nothing");
        assert!(!outside(&both.guarded), "{name}");
    }
}

#[test]
fn b25_the_proxy_opens_no_abstract_socket() {
    let Some(both) = both("packets.unix_sockets", &["mine"]) else {
        return;
    };
    for outcome in [&both.open, &both.guarded] {
        let found: Vec<&str> = outcome
            .text
            .lines()
            .filter(|line| line.starts_with("abstract"))
            .collect();
        assert_eq!(found, ["abstract @mine"], "only the attacker's own");
    }
}

#[test]
fn b26_the_cluster_is_not_to_be_found() {
    let private = PRIVATE.to_string();
    let Some(both) = both("packets.tcp", &[&private, "443"]) else {
        return;
    };
    assert!(both.open.seen.reached(PRIVATE) && !both.guarded.seen.reached(PRIVATE));
    let stage = GUARDED.take().unwrap();
    let names = attack(
        &stage,
        "names.resolve",
        &["kubernetes.default", "kubernetes.default.svc.cluster.local"],
    );
    assert!(!through(&names) && names.seen.questions.is_empty());
    let token = stage
        .attack(None, &["ls", "/var/run/secrets/kubernetes.io"])
        .unwrap();
    assert_ne!(token.code, Some(0));
}
