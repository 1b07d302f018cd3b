//! Group C: names, DNS, and addresses that must not be reached on somebody's behalf.

use std::collections::BTreeSet;

use assay_core::phase::EgressPhase;
use assay_tests::stage::{Outcome, Transport, Walls};

use crate::scene::{
    ALLOWED, EVIL, EVIL_V6, GUARDED, METADATA, METADATA_V6, OPEN, PRIVATE, attack, attack_as, audited, both,
    fresh, through,
};

/// Nothing of a question left the sandbox.
fn silent(outcome: &Outcome, token: &str) -> bool {
    !outcome.seen.asked(token) && !outcome.seen.carries(token)
}

#[test]
fn c1_a_name_carries_nothing_out() {
    for (name, arguments) in [
        ("names.resolve", ["secret-one.evil.example"].as_slice()),
        ("names.ask_tcp", &["RESOLVER", "TXT", "secret-one.evil.example"]),
        ("names.every_type", &["RESOLVER", "secret-one.evil.example"]),
    ] {
        let with = |resolver: &'static str| -> Vec<&'static str> {
            let known = ["names.resolve", "names.ask_tcp", "names.every_type"];
            assert!(known.contains(&name));
            arguments
                .iter()
                .map(|&word| if word == "RESOLVER" { resolver } else { word })
                .collect()
        };
        let Some(open) = OPEN.take() else { return };
        assert!(attack(&open, name, &with("10.77.0.53")).seen.asked("secret-one"));
        let stage = GUARDED.take().unwrap();
        for user in [None, Some("1000")] {
            let guarded = attack_as(&stage, user, name, &with("127.0.0.1"));
            assert!(silent(&guarded, "secret-one") && !through(&guarded), "{name}");
        }
    }
}

#[test]
fn c2_a_wildcard_is_no_channel() {
    let Some(open) = OPEN.take() else { return };
    let tunnel = attack(&open, "names.labels", &["10.77.0.53", "wild.example", "200"]);
    assert_eq!(tunnel.seen.questions.len(), 200);
    let stage = GUARDED.take().unwrap();
    let guarded = attack(&stage, "names.labels", &["127.0.0.1", "wild.example", "10000"]);
    assert!(guarded.text.contains("through 10000"), "each is answered");
    assert!(guarded.seen.questions.is_empty(), "and none is asked");
}

#[test]
fn c2_connections_under_a_wildcard_look_up_so_many_names_and_no_more() {
    let names = ["wild.example", "260"];
    let Some(open) = OPEN.take() else { return };
    let asked = |outcome: &Outcome| {
        let questions = outcome.seen.questions.iter();
        let names: BTreeSet<&str> = questions.map(|(name, _)| name.as_str()).collect();
        names.len()
    };
    assert_eq!(asked(&attack(&open, "tls.fetch_labels", &names)), 260);
    let stage = fresh(Walls::ALL, |_| {}).unwrap();
    assert_eq!(asked(&attack(&stage, "tls.fetch_labels", &names)), 256);
    let refused = audited(&stage, |line| line.reason == "too_many_names");
    assert_eq!(refused.host.as_deref(), Some("secret-259.wild.example"));
}

#[test]
fn c3_a_refused_name_is_never_looked_up() {
    let evil = EVIL.to_string();
    for (name, arguments) in [
        ("tls.fetch", ["refused.evil.example", evil.as_str()].as_slice()),
        ("web.plain", &["refused.evil.example", &evil]),
    ] {
        let Some(both) = both(name, arguments) else { return };
        assert!(through(&both.open));
        assert!(!through(&both.guarded) && both.guarded.seen.questions.is_empty());
    }
}

#[test]
fn c4_dns_over_tls_and_over_https_are_refused() {
    let evil = EVIL.to_string();
    let Some(plain) = both("packets.tcp", &[&evil, "853"]) else {
        return;
    };
    assert!(plain.open.seen.reached_port(EVIL, Transport::Tcp, 853) && !plain.guarded.seen.reached(EVIL));
    for name in ["dns.google", "cloudflare-dns.com", "mozilla.cloudflare-dns.com"] {
        let Some(both) = both("tls.fetch", &[name, &evil]) else {
            return;
        };
        assert!(both.open.seen.visited(EVIL));
        assert!(!both.guarded.seen.reached(EVIL) && both.guarded.seen.visits.is_empty());
    }
}

#[test]
fn c5_another_resolver_is_never_reached() {
    for (address, name) in [
        (EVIL.to_string(), "names.ask"),
        (EVIL_V6.to_string(), "names.ask"),
        (EVIL.to_string(), "names.ask_tcp"),
        ("10.77.0.53".to_owned(), "names.ask"),
    ] {
        let Some(both) = both(name, &[&address, "A", "direct.evil.example"]) else {
            return;
        };
        assert!(both.open.seen.asked("direct"), "{address}");
        assert!(silent(&both.guarded, "direct"), "{address}");
        let address: std::net::IpAddr = address.parse().unwrap();
        assert!(!both.guarded.seen.reached(address));
    }
}

#[test]
fn c6_an_allowed_name_that_means_a_forbidden_address_is_refused() {
    let names = [
        "metadata.example",
        "private.example",
        "mapped.example",
        "nat64.example",
        "unique.example",
    ];
    for name in ["tls.fetch_each", "web.plain_each"] {
        let Some(both) = both(name, &names) else { return };
        assert!(both.open.seen.reached(METADATA) && both.open.seen.reached(PRIVATE));
        let seen = &both.guarded.seen;
        assert!(!seen.reached(METADATA) && !seen.reached(PRIVATE) && !seen.reached(METADATA_V6));
        assert!(!through(&both.guarded));
    }
    let stage = GUARDED.take().unwrap();
    for name in names {
        let line = audited(&stage, |line| {
            line.host.as_deref() == Some(name) && line.kind == "tls"
        });
        assert_eq!(
            (line.reason.as_str(), line.dialled),
            ("address_not_global", None),
            "{name}"
        );
    }
    // Among several addresses only those are dialled that may be.
    let mixed = attack(&stage, "tls.fetch", &["mixed.example"]);
    assert!(mixed.seen.visited(ALLOWED) && !mixed.seen.reached(METADATA));
}

#[test]
fn c7_the_address_that_was_checked_is_the_one_that_is_dialled() {
    let names = ["rebind.example"; 6];
    let Some(both) = both("web.plain_each", &names) else {
        return;
    };
    assert!(
        both.open.seen.reached(METADATA),
        "the name turns while a client uses it"
    );
    assert!(!both.guarded.seen.reached(METADATA));
    let stage = GUARDED.take().unwrap();
    for line in stage.audit().unwrap() {
        let dialled = line.dialled.unwrap_or_default();
        assert!(
            !dialled.starts_with("169.254.") && !dialled.starts_with("10."),
            "{dialled}"
        );
    }
}

#[test]
fn c8_the_audit_tells_the_address_that_a_name_led_to() {
    let Some(both) = both("tls.fetch", &["other.example"]) else {
        return;
    };
    assert!(through(&both.open) && through(&both.guarded));
    let line = audited(&GUARDED.take().unwrap(), |line| {
        line.host.as_deref() == Some("other.example") && line.kind == "tls"
    });
    assert!(
        line.dialled
            .is_some_and(|dialled| dialled.starts_with("11.1.0.1:") || dialled.starts_with("[2a00:77::1]"))
    );
}

#[test]
fn c9_search_domains_change_nothing() {
    let names = [
        "allowed.example.default.svc.cluster.local",
        "allowed.example.evil.example",
    ];
    let Some(both) = both("names.resolve", &names) else {
        return;
    };
    assert!(both.open.seen.asked("allowed.example.evil.example"));
    assert!(!through(&both.guarded) && both.guarded.seen.questions.is_empty());
    let stage = GUARDED.take().unwrap();
    let asked = attack(&stage, "tls.fetch", &["x9.wild.example"]).seen.questions;
    assert!(
        asked.iter().all(|(name, _)| name == "x9.wild.example"),
        "only whole names are asked: {asked:?}"
    );
}

#[test]
fn c10_metadata_is_out_of_reach_by_every_address_and_name() {
    let (v4, v6) = (METADATA.to_string(), METADATA_V6.to_string());
    for (name, arguments) in [
        ("packets.tcp", [v4.as_str(), "80", "443", "8080"].as_slice()),
        ("packets.tcp", &[&v6, "80", "443"]),
        ("web.plain", &["allowed.example", &v4]),
        ("web.plain", &["169.254.169.254", &v4]),
        ("packets.udp", &[&v4, "53", "token"]),
    ] {
        let Some(both) = both(name, arguments) else { return };
        assert!(
            both.open.seen.reached(METADATA) || both.open.seen.reached(METADATA_V6),
            "{name}"
        );
        assert!(
            !both.guarded.seen.reached(METADATA) && !both.guarded.seen.reached(METADATA_V6),
            "{name}"
        );
    }
    let stage = GUARDED.take().unwrap();
    let name = attack(
        &stage,
        "names.resolve",
        &["metadata.google.internal", "instance-data.ec2.internal"],
    );
    assert!(!through(&name) && name.seen.questions.is_empty());
}

#[test]
fn c11_of_our_own_ports_only_health_trust_and_usage_answer() {
    let Some(stage) = GUARDED.take() else { return };
    let listening = attack(&stage, "web.ports", &[]).text;
    let ours = ["15001", "15020", "15053", "15080", "15088", "15090", "15443"];
    let found: Vec<&str> = listening
        .split_whitespace()
        .filter(|word| word.parse::<u16>().is_ok())
        .collect();
    assert_eq!(found, ours);
    for (port, method, path, status) in [
        ("15090", "GET", "/healthz", "200"),
        ("15090", "GET", "/trust", "200"),
        ("15088", "GET", "/usage", "200"),
        ("15020", "GET", "/healthz", "200"),
        ("15090", "GET", "/v1/ledger", "401"),
        ("15090", "GET", "/v1/log", "401"),
        ("15090", "GET", "/v1/audit", "401"),
        ("15090", "GET", "/v1/metrics", "401"),
        ("15090", "GET", "/metrics", "404"),
        ("15090", "POST", "/v1/phase", "401"),
        ("15090", "POST", "/v1/collected", "401"),
        ("15090", "POST", "/v1/probe", "401"),
        ("15020", "POST", "/v1/execute", "401"),
        ("15020", "POST", "/v1/kill", "401"),
        ("15020", "POST", "/v1/shutdown", "401"),
    ] {
        let asked = attack(&stage, "web.ask_port", &[port, method, path]);
        assert!(
            asked.text.ends_with(&format!("{path} {status}\n")),
            "{}",
            asked.text
        );
    }
    // The wall is the signature: whoever has stolen one gets an answer to this one request, and once.
    let stolen = stage.stolen_signature("GET", "/v1/ledger", b"").unwrap();
    for (path, status) in [("/v1/log", "401"), ("/v1/ledger", "200"), ("/v1/ledger", "401")] {
        let asked = attack(&stage, "web.ask_port", &["15090", "GET", path, &stolen]);
        assert!(
            asked.text.ends_with(&format!("{path} {status}\n")),
            "{}",
            asked.text
        );
    }
}

#[test]
fn c12_the_phase_cannot_be_switched_from_inside() {
    let Some(stage) = GUARDED.take() else { return };
    for header in [
        "",
        "x-assay-auth: v1\r\n",
        "authorization: Bearer x\r\n",
        "x-assay-auth: 1;01900000-0000-7000-8000-000000000001;1;00;99999999;boot;00\r\n",
    ] {
        let forged = attack(&stage, "web.ask_port", &["15090", "POST", "/v1/phase", header]);
        assert!(forged.text.ends_with("401\n"), "{}", forged.text);
    }
    assert_eq!(stage.proxy_answer().unwrap().phase, EgressPhase::Agent);
}

#[test]
fn c12_with_a_stolen_signature_the_same_attack_switches_the_phase_once() {
    let Some(stage) = fresh(Walls::ALL, |_| {}) else {
        return;
    };
    let looser = r#"{"generation":7,"phase":"setup","step":0}"#;
    let tighter = r#"{"generation":8,"phase":"verify","step":0}"#;
    let signature = stage
        .stolen_signature("POST", "/v1/phase", looser.as_bytes())
        .unwrap();
    let switch = |body| {
        attack(
            &stage,
            "web.ask_port",
            &["15090", "POST", "/v1/phase", &signature, body],
        )
    };
    assert!(switch(looser).text.ends_with("200\n"), "the attack is a real one");
    assert_eq!(stage.proxy_answer().unwrap().phase, EgressPhase::Setup);
    for body in [looser, tighter] {
        assert!(
            switch(body).text.ends_with("401\n"),
            "neither again nor for another phase"
        );
    }
    assert_eq!(stage.proxy_answer().unwrap().phase, EgressPhase::Setup);
}

#[test]
fn c13_a_redirect_is_not_followed_for_anybody() {
    let Some(both) = both("web.follow", &["allowed.example"]) else {
        return;
    };
    assert!(both.open.seen.visited(METADATA));
    assert!(!both.guarded.seen.reached(METADATA));
    assert!(
        both.guarded.text.contains("302"),
        "the client sees it: {}",
        both.guarded.text
    );
}
