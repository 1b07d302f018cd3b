//! Group A: finding the destination.

use std::collections::BTreeSet;

use assay_core::control::proxy::Decision;
use assay_tests::stage::{Outcome, Transport, Walls};

use crate::scene::{ALLOWED, EVIL, GUARDED, MODEL, OPEN, attack, attack_as, audited, both, fresh, through};

/// Sends odd hellos straight to the evil address, then to the proxy by way of the allowed one.
fn hellos(name: &str, kinds: &[&str]) -> Option<(Outcome, Outcome)> {
    let evil = EVIL.to_string();
    let arguments: Vec<&str> = [evil.as_str(), name]
        .into_iter()
        .chain(kinds.iter().copied())
        .collect();
    let both = both("hello.send_all", &arguments)?;
    for kind in kinds {
        assert!(both.open.text.contains(kind), "{kind} was not tried");
    }
    assert!(
        both.open.seen.reached_port(EVIL, Transport::Tcp, 443),
        "the attack itself does nothing"
    );
    assert!(!both.guarded.seen.reached(EVIL));
    Some((both.open, both.guarded))
}

/// The number of connections that the allowed site got. One that is asked for again, because nobody answered in time,
/// comes from the same port.
fn dialled(outcome: &Outcome) -> usize {
    let opens = |packet: &&assay_tests::stage::Packet| {
        let flags = packet.payload.get(13).copied().unwrap_or(0);
        packet.transport == Transport::Tcp && packet.to == ALLOWED && flags & 0x12 == 2
    };
    let opened = outcome.seen.packets.iter().filter(opens);
    opened
        .map(|packet| (packet.from, packet.from_port))
        .collect::<BTreeSet<_>>()
        .len()
}

#[test]
fn a1_an_allowed_name_at_another_address_never_reaches_that_address() {
    let arguments = ["allowed.example", &EVIL.to_string()];
    let Some(both) = both("tls.fetch", &arguments) else {
        return;
    };
    assert!(both.open.seen.visited(EVIL));
    assert!(!both.guarded.seen.reached(EVIL));
    assert!(
        both.guarded.seen.visited(ALLOWED),
        "the allowed host itself must work"
    );
    let stage = GUARDED.take().unwrap();
    let line = audited(&stage, |line| {
        line.original.as_deref() == Some("11.66.0.1:443") && line.host.as_deref() == Some("allowed.example")
    });
    assert_eq!(line.dialled.as_deref(), Some("11.1.0.1:443"));
    let ordinary = attack_as(&stage, Some("1000"), "tls.fetch", &arguments);
    assert!(!ordinary.seen.reached(EVIL) && ordinary.seen.visited(ALLOWED));
}

#[test]
fn a2_a_second_request_for_another_host_on_an_opened_connection_is_misdirected() {
    let Some(both) = both("tls.two_hosts", &["models.example.com", "evil.example"]) else {
        return;
    };
    assert!(through(&both.open), "without the proxy the service answers");
    assert!(both.guarded.text.contains("first HTTP/1.1 200"));
    assert!(both.guarded.text.contains("stopped HTTP/1.1 421"));
    assert!(!both.guarded.seen.reached(MODEL));
}

#[test]
fn a3_fronting_on_a_host_that_is_not_opened_reaches_its_own_front_and_nothing_else() {
    let arguments = ["allowed.example", "", "evil.example"];
    let Some(both) = both("tls.fetch", &arguments) else {
        return;
    };
    assert!(through(&both.open));
    // The limit that docs/SECURITY.md names: the front gets the other host's name.
    assert!(
        both.guarded
            .seen
            .visits
            .iter()
            .any(|visit| visit.text.contains("host: evil.example"))
    );
    assert!(both.guarded.seen.visits.iter().all(|visit| visit.site == ALLOWED));
}

#[test]
fn a4_an_encrypted_hello_gets_no_further_than_its_outer_name() {
    let Some((_, _)) = hellos("cloudflare-ech.com", &["ech"]) else {
        return;
    };
    let stage = GUARDED.take().unwrap();
    let address = ALLOWED.to_string();
    let opened = attack(&stage, "hello.send", &[&address, "ech", "models.example.com"]);
    assert!(
        through(&opened) && !opened.seen.reached(MODEL),
        "our own server answers it"
    );
    let spliced = attack(&stage, "hello.send", &[&address, "ech", "allowed.example"]);
    assert!(
        through(&spliced) && dialled(&spliced) == 1,
        "passed to the host of the outer name"
    );
    let keys = attack(&stage, "names.ask", &["127.0.0.1", "HTTPS", "allowed.example"]);
    assert!(
        keys.text.contains("answers=0"),
        "no keys for such hellos are handed out"
    );
}

#[test]
fn a4_a_host_that_denies_it_gets_no_encrypted_hello() {
    let denied = "allowed.example".parse().unwrap();
    let Some(stage) = fresh(Walls::ALL, |assignment| assignment.deny_ech = [denied].into()) else {
        return;
    };
    let hidden = attack(
        &stage,
        "hello.send",
        &[&ALLOWED.to_string(), "ech", "allowed.example"],
    );
    assert!(!through(&hidden) && dialled(&hidden) == 0, "{}", hidden.text);
    let line = audited(&stage, |line| line.reason == "ech_not_allowed");
    assert_eq!(line.host.as_deref(), Some("allowed.example"));
    assert!(through(&attack(&stage, "tls.fetch", &["allowed.example"])));
}

#[test]
fn a5_a_hello_without_a_name_is_refused() {
    let Some((_, guarded)) = hellos("", &["no-name"]) else {
        return;
    };
    assert_eq!(dialled(&guarded), 0);
    let stage = GUARDED.take().unwrap();
    let line = audited(&stage, |line| line.reason == "no_server_name");
    assert_eq!(line.decision, Decision::Deny);
}

#[test]
fn a6_a_hello_that_names_an_address_is_refused() {
    let Some((_, guarded)) = hellos("allowed.example", &["address"]) else {
        return;
    };
    assert_eq!(dialled(&guarded), 0);
}

#[test]
fn a7_a_hello_in_many_segments_is_joined_and_one_that_never_ends_is_given_up() {
    let Some((open, guarded)) = hellos("evil.example", &["segments"]) else {
        return;
    };
    assert!(through(&open) && !through(&guarded));
    let stage = GUARDED.take().unwrap();
    let address = ALLOWED.to_string();
    assert!(through(&attack(
        &stage,
        "hello.send",
        &[&address, "segments", "allowed.example"]
    )));
    let never = attack(&stage, "hello.never", &[&address, "allowed.example"]);
    assert!(never.text.contains("stopped closed after"));
    assert_eq!(dialled(&never), 0);
    assert!(
        attack(
            &OPEN.take().unwrap(),
            "hello.never",
            &[&address, "allowed.example"]
        )
        .text
        .contains("through")
    );
}

#[test]
fn a8_a_hello_in_many_records_is_joined() {
    let Some((open, guarded)) = hellos("evil.example", &["records", "one-byte-records"]) else {
        return;
    };
    assert!(through(&open) && !through(&guarded));
    let stage = GUARDED.take().unwrap();
    let honest = attack(
        &stage,
        "hello.send_all",
        &[
            &ALLOWED.to_string(),
            "allowed.example",
            "records",
            "one-byte-records",
        ],
    );
    assert_eq!(dialled(&honest), 2, "allowed, not hung");
}

#[test]
fn a9_a_large_hello_is_read_and_a_huge_one_is_refused() {
    let kinds = ["padded-2000", "padded-8000", "padded-24000", "padded-70000"];
    let Some((_, guarded)) = hellos("evil.example", &kinds) else {
        return;
    };
    assert!(!through(&guarded));
    let stage = GUARDED.take().unwrap();
    let honest = attack(
        &stage,
        "hello.send_all",
        &[
            &[ALLOWED.to_string().as_str(), "allowed.example"],
            kinds.as_slice(),
        ]
        .concat(),
    );
    assert_eq!(dialled(&honest), 3, "all but the last");
}

#[test]
fn a10_two_names_in_one_hello_are_refused() {
    let kinds = ["two-names", "two-names-reversed", "two-extensions"];
    let Some((_, guarded)) = hellos("allowed.example", &kinds) else {
        return;
    };
    assert_eq!(dialled(&guarded), 0);
}

#[test]
fn a11_names_that_are_no_host_names_are_refused() {
    let kinds = ["nul", "underscore", "empty", "long", "non-ascii"];
    let Some((_, guarded)) = hellos("allowed.example", &kinds) else {
        return;
    };
    assert_eq!(dialled(&guarded), 0);
}

#[test]
fn a12_a_trailing_dot_is_refused_and_case_does_not_matter() {
    let Some((_, guarded)) = hellos("allowed.example", &["trailing-dot"]) else {
        return;
    };
    assert_eq!(dialled(&guarded), 0);
    let stage = GUARDED.take().unwrap();
    let upper = attack(
        &stage,
        "hello.send",
        &[&ALLOWED.to_string(), "upper-case", "allowed.example"],
    );
    assert_eq!(dialled(&upper), 1);
}

#[test]
fn a13_a_wildcard_stops_at_label_borders() {
    let evil = EVIL.to_string();
    for name in [
        "wild.example",
        "evilwild.example",
        "a.b.wild.example",
        "x.wild.example.evil.example",
    ] {
        let Some(both) = both("tls.fetch", &[name, &evil]) else {
            return;
        };
        assert!(both.open.seen.visited(EVIL), "{name}");
        assert!(
            !both.guarded.seen.reached(EVIL) && dialled(&both.guarded) == 0,
            "{name}"
        );
    }
    let honest = attack(&GUARDED.take().unwrap(), "tls.fetch", &["x.wild.example", &evil]);
    assert!(honest.seen.visited(ALLOWED));
}

#[test]
fn a14_what_is_not_tls_on_port_443_is_refused() {
    let kinds = ["ssh", "http", "garbage", "endless", "zero-records", "truncated"];
    let Some((open, guarded)) = hellos("allowed.example", &kinds) else {
        return;
    };
    assert!(open.seen.carries("SSH-2.0-OpenSSH"));
    assert_eq!(dialled(&guarded), 0);
}

#[test]
fn a15_a_record_before_the_hello_is_refused_and_one_after_it_passed_on() {
    let Some((_, guarded)) = hellos("allowed.example", &["ccs-first"]) else {
        return;
    };
    assert_eq!(dialled(&guarded), 0);
    let stage = GUARDED.take().unwrap();
    let after = attack(
        &stage,
        "hello.send",
        &[&ALLOWED.to_string(), "ccs-after", "allowed.example"],
    );
    assert!(through(&after) && dialled(&after) == 1);
}

#[test]
fn a16_what_goes_through_an_unopened_connection_goes_to_its_host_only() {
    let arguments = ["allowed.example", "", "inner.evil.example"];
    let Some(both) = both("tls.fetch", &arguments) else {
        return;
    };
    assert!(both.open.seen.visited(ALLOWED));
    let Outcome { seen, .. } = both.guarded;
    assert!(seen.visited(ALLOWED) && !seen.reached(EVIL));
    // Its bytes are counted.
    audited(&GUARDED.take().unwrap(), |line| {
        line.reason == "spliced" && line.bytes.is_some_and(|(up, down)| up > 0 && down > 0)
    });
}

#[test]
fn a17_no_session_is_taken_up_again() {
    let Some(both) = both("tls.resume", &["models.example.com"]) else {
        return;
    };
    assert!(both.open.text.contains("through resumed"));
    assert!(both.guarded.text.contains("stopped a full handshake"));
}

#[test]
fn a18_the_proxys_own_port_gives_no_way_to_local_addresses() {
    for port in ["443", "80"] {
        let Some(both) = both("tls.back_to_itself", &["loopback.example", port]) else {
            return;
        };
        assert!(both.open.text.contains("through came back"));
        assert!(both.guarded.text.contains("stopped nobody came"));
    }
    let stage = GUARDED.take().unwrap();
    let line = audited(&stage, |line| {
        line.host.as_deref() == Some("loopback.example") && line.kind == "tls"
    });
    assert_eq!(line.reason, "address_not_global");
    for name in ["evil.example", "loopback.example", "metadata.example"] {
        let direct = attack(&stage, "tls.proxy_port", &["15443", name]);
        assert!(!through(&direct) && direct.seen.visits.is_empty(), "{name}");
    }
}
