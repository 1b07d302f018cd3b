//! Group I: secrets and trust.

use crate::scene::{GUARDED, attack, audited, both, fresh, through};
use assay_core::policy::Recorded;
use assay_tests::stage::{Walls, address::IMPOSTOR};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const CREDENTIAL: &str = "sk-stage-real-credential";

#[test]
fn i3_a_model_host_with_a_wrong_certificate_sees_no_credential() {
    let Some(both) = both("tls.present_credential", &["broken.example.com"]) else {
        return;
    };
    let told = |seen: &assay_tests::stage::internet::Seen| {
        seen.visits
            .iter()
            .any(|visit| visit.site == IMPOSTOR && visit.text.contains("authorization"))
    };
    assert!(told(&both.open.seen), "without the proxy the impostor gets it");
    assert!(both.guarded.seen.reached(IMPOSTOR) && !told(&both.guarded.seen));
    assert!(both.guarded.text.contains("502"), "{}", both.guarded.text);
    assert!(!both.guarded.seen.carries(CREDENTIAL));
}

#[test]
fn i5_the_credential_is_in_no_file_variable_log_or_audit() {
    let Some(stage) = GUARDED.take() else { return };
    attack(&stage, "web.model_call", &["1"]);
    let search = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; ls -R /assay /run/secrets 2>/dev/null";
    // The search finds what is there: a value that only the environment of its own process holds.
    let planted = [("PLANTED".to_owned(), CREDENTIAL.to_owned())].into();
    let found = stage.told(&planted, None, &["sh", "-c", search]).unwrap();
    assert!(found.text.contains(CREDENTIAL));
    let inside = stage.attack(None, &["sh", "-c", search]).unwrap();
    assert!(!inside.text.contains(CREDENTIAL) && inside.text.contains("SSL_CERT_FILE"));
    assert!(!stage.log("proxy").contains(CREDENTIAL) && !stage.log("runner").contains(CREDENTIAL));
    let state = stage
        .operator(&format!("cat {}/*", stage.path("proxy/state").display()))
        .unwrap();
    assert!(state.contains("sandbox") && !state.contains(CREDENTIAL));
    assert!(
        !stage.path("proxy/assignment.json").exists(),
        "read once, then unlinked"
    );
}

#[test]
fn i5_nothing_that_a_recording_proxy_writes_holds_the_credential() {
    let stage = fresh(Walls::ALL, |assignment| assignment.record = Recorded::Models);
    let Some(stage) = stage else { return };
    attack(&stage, "web.model_call", &["2"]);
    let state = stage
        .operator(&format!("cat {}/*", stage.path("proxy/state").display()))
        .unwrap();
    assert!(
        state.contains("\"answer\":") && state.contains("\"entry\":\"settle\""),
        "{state}"
    );
    let told = [
        state,
        stage.log("proxy"),
        format!("{:?}{:?}", stage.metrics().unwrap(), stage.ledger().unwrap()),
        format!("{:?}", stage.audit().unwrap()),
    ];
    // As it is, and what every base64 of it has in its middle, by where it begins.
    let forms = [
        CREDENTIAL,
        "LXN0YWdlLXJlYWwtY3JlZGVudG",
        "zdGFnZS1yZWFsLWNyZWRlbnRp",
        "c3RhZ2UtcmVhbC1jcmVkZW50aW",
    ];
    for form in forms {
        let shown = ["", "x", "xy"].map(|before| STANDARD.encode(format!("{before}{CREDENTIAL}")));
        assert!(
            form == CREDENTIAL || shown.iter().any(|text| text.contains(form)),
            "{form} is no form of it"
        );
        assert!(told.iter().all(|text| !text.contains(form)), "{form}");
    }
}

#[test]
fn i6_our_root_vouches_for_model_hosts_only() {
    let Some(both) = both("tls.trusted", &["models.example.com"]) else {
        return;
    };
    assert!(!through(&both.open) && through(&both.guarded));
    let other = attack(&GUARDED.take().unwrap(), "tls.trusted", &["allowed.example"]);
    assert!(
        !through(&other),
        "a host that is not opened shows its own certificate: {}",
        other.text
    );
}

#[test]
fn i7_a_client_that_does_not_trust_us_is_told_apart_in_the_audit() {
    let Some(both) = both("tls.distrust", &["models.example.com"]) else {
        return;
    };
    assert!(!through(&both.open) && !through(&both.guarded));
    let line = audited(&GUARDED.take().unwrap(), |line| {
        line.reason == "certificate_not_trusted"
    });
    assert_eq!(line.host.as_deref(), Some("models.example.com"));
}

#[test]
fn i8_the_leaf_pleases_strict_clients() {
    let Some(stage) = GUARDED.take() else { return };
    let script = "openssl s_client -connect 11.3.0.1:443 -servername models.example.com -showcerts </dev/null 2>/dev/null \
        | openssl x509 -noout -text -checkend 0; openssl s_client -connect 11.3.0.1:443 -servername models.example.com \
        -verify_return_error -x509_strict -verify_hostname models.example.com -CAfile $SSL_CERT_FILE </dev/null 2>&1 | grep Verif";
    let leaf = stage.attack(None, &["sh", "-c", script]).unwrap().text;
    for wanted in [
        "Signature Algorithm: ecdsa-with-SHA256",
        "ASN1 OID: prime256v1",
        "TLS Web Server Authentication",
        "X509v3 Subject Alternative Name",
        "DNS:models.example.com",
        "X509v3 Authority Key Identifier",
        "Certificate will not expire",
        "Verification: OK",
    ] {
        assert!(leaf.contains(wanted), "{wanted}: {leaf}");
    }
}
