//! Rows I7 and I8: what becomes of a client that does not trust us, and what our certificates look like.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use assay_core::{control::proxy::AuditLine, trust::VARIABLES};
use assay_tests::stage::{Stage, sandbox};

use crate::{
    list::{CLIENTS, Client, Roots, Speaks},
    scene,
};

#[test]
fn i7_whichever_client_does_not_trust_us_the_audit_says_what_to_set() {
    let Some(stage) = scene::take() else { return };
    let faults: Vec<String> = CLIENTS
        .iter()
        .filter(|client| client.speaks == Speaks::Models)
        .filter_map(|client| untold(&stage, client).err())
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Runs a client that the variables do not reach: it must fail and leave its line.
fn untold(stage: &Stage, client: &Client) -> Result<(), String> {
    let mut told = scene::told(stage);
    if client.roots == Roots::Told {
        let image = "/etc/ssl/certs/ca-certificates.crt";
        told.extend(
            VARIABLES
                .iter()
                .map(|variable| (variable.name.to_owned(), image.to_owned())),
        );
        told.insert("JAVA_TOOL_OPTIONS".to_owned(), String::new());
        told.insert("SSL_CERT_DIR".to_owned(), "/etc/ssl/certs".to_owned());
    }
    let before = distrusted(stage);
    let run = scene::run_told(
        stage,
        client,
        ("plain", "https://models.example.com/api/v1"),
        &told,
    );
    if let Ok(said) = run.said {
        return Err(format!("{} trusts us untold: {said:?}", client.name));
    }
    // The proxy may learn of it a moment after the client's end.
    let end = Instant::now() + PATIENCE;
    while distrusted(stage) == before {
        if Instant::now() > end {
            let lines = stage.audit().unwrap();
            let last = lines.last().map(|line| line.reason.clone());
            return Err(format!(
                "{} is told as {last:?}: {:?}",
                client.name,
                run.said.err()
            ));
        }
        std::thread::yield_now();
    }
    let line = stage.audit().unwrap().into_iter().rfind(is_distrust);
    let line = line.ok_or_else(|| format!("{} left no line", client.name))?;
    let advice = line.advice.unwrap_or_default();
    let named = [
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
        "JAVA_TOOL_OPTIONS",
        "OPENAI_BASE_URL",
    ];
    if line.host.as_deref() == Some("models.example.com") && named.iter().all(|name| advice.contains(name)) {
        return Ok(());
    }
    Err(format!(
        "{}: the line says {:?}, {advice:?}",
        client.name, line.host
    ))
}

/// Every variable leads to the roots of the image.
fn misled(stage: &Stage) -> BTreeMap<String, String> {
    let mut told = scene::told(stage);
    let image = "/etc/ssl/certs/ca-certificates.crt";
    told.extend(
        VARIABLES
            .iter()
            .map(|variable| (variable.name.to_owned(), image.to_owned())),
    );
    told.insert("JAVA_TOOL_OPTIONS".to_owned(), String::new());
    told.insert("SSL_CERT_DIR".to_owned(), "/etc/ssl/certs".to_owned());
    told
}

fn is_distrust(line: &AuditLine) -> bool {
    DISTRUST.contains(&line.reason.as_str())
}

fn distrusted(stage: &Stage) -> u64 {
    let metrics = stage.metrics().unwrap();
    let lines = metrics.decisions.iter();
    lines
        .filter(|counted| DISTRUST.contains(&counted.reason.as_str()))
        .map(|counted| counted.count)
        .sum()
}

#[test]
fn i7_the_probe_tells_which_clients_of_an_image_believe_us() {
    let Some(stage) = scene::take() else { return };
    let runner = sandbox::program("assay-runner").unwrap();
    let argv = [runner.to_str().unwrap(), "trust-probe", "models.example.com"];
    let told = stage.told(&scene::told(&stage), None, &argv).unwrap();
    let untold = stage.told(&misled(&stage), None, &argv).unwrap();
    println!("{}\n{}", told.text, untold.text);
    for client in ["curl", "openssl", "Python ssl", "Node", "Java", "git"] {
        let found = |text: &str, word: &str| {
            text.lines()
                .any(|line| line.starts_with(&format!("{client:<16} {word}")))
        };
        assert!(found(&told.text, "believes"), "{client}: {}", told.text);
        assert!(found(&untold.text, "DOUBTS"), "{client}: {}", untold.text);
    }
    assert_eq!((told.code, untold.code), (Some(0), Some(1)));
}

/// Everything that strict clients look at, as OpenSSL prints it; what differs from sandbox to sandbox is left out.
#[test]
fn i8_our_certificates_are_what_strict_clients_want() {
    let Some(stage) = scene::take() else { return };
    let script = "openssl s_client -connect models.example.com:443 -servername models.example.com -showcerts </dev/null \
        2>/dev/null | awk -v to=$HOME/shown- '/BEGIN CERT/ { n++ } n { print > (to n) }'
        for n in 1 2; do openssl x509 -in $HOME/shown-$n -noout -subject -issuer \
            -ext basicConstraints,keyUsage,extendedKeyUsage,subjectAltName,nameConstraints
        openssl x509 -in $HOME/shown-$n -noout -text | grep -oE 'Signature Algorithm: .*|ASN1 OID: .*|[A-Za-z]+ Key Identifier' | sort -u; done";
    let shown = stage
        .told(&scene::told(&stage), None, &["sh", "-c", script])
        .unwrap();
    let lines: Vec<&str> = shown.text.lines().map(str::trim).collect();
    assert_eq!(lines, GOLDEN, "{}", shown.errors);
    for (part, days) in [("1", 31), ("2", 31)] {
        let check = format!(
            "openssl x509 -in $HOME/shown-{part} -noout -checkend 0 && ! openssl x509 -in $HOME/shown-{part} -noout -checkend {} \
             && openssl x509 -in $HOME/shown-{part} -noout -serial",
            days * 86_400
        );
        let checked = stage
            .told(&scene::told(&stage), None, &["sh", "-c", &check])
            .unwrap();
        let serial = checked.text.lines().find_map(|line| line.strip_prefix("serial="));
        assert!(
            serial.is_some_and(|serial| serial.len() <= 40),
            "valid now, for a month at most, with at most 20 bytes as its number: {}",
            checked.text
        );
    }
}

/// docs/AGENTS.md has a row for each client, and no other.
#[test]
fn the_document_names_the_clients_that_are_proven() {
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/AGENTS.md");
    let text = std::fs::read_to_string(document).unwrap();
    let (_, table) = text.split_once("| client | how it is told | proven |").unwrap();
    let named: BTreeSet<&str> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.split(" | ").next())
        .collect();
    let proven: BTreeSet<&str> = CLIENTS.iter().map(|client| client.name).collect();
    assert_eq!(named, proven);
}

/// How clients that do not believe a certificate leave: with an alert, or without a word.
const DISTRUST: [&str; 2] = ["certificate_not_trusted", "closed_in_handshake"];
const PATIENCE: Duration = Duration::from_mins(1);
const GOLDEN: &[&str] = &[
    "subject=CN = models.example.com",
    "issuer=CN = Assay sandbox intermediate",
    "X509v3 Subject Alternative Name:",
    "DNS:models.example.com",
    "X509v3 Key Usage: critical",
    "Digital Signature",
    "X509v3 Extended Key Usage:",
    "TLS Web Server Authentication",
    "ASN1 OID: prime256v1",
    "Authority Key Identifier",
    "Signature Algorithm: ecdsa-with-SHA256",
    "subject=CN = Assay sandbox intermediate",
    "issuer=CN = Assay sandbox root",
    "X509v3 Key Usage: critical",
    "Certificate Sign, CRL Sign",
    "X509v3 Name Constraints: critical",
    "Permitted:",
    "DNS:models.example.com",
    "DNS:broken.example.com",
    "Excluded:",
    "IP:0.0.0.0/0.0.0.0",
    "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0",
    "X509v3 Basic Constraints: critical",
    "CA:TRUE, pathlen:0",
    "ASN1 OID: prime256v1",
    "Authority Key Identifier",
    "Signature Algorithm: ecdsa-with-SHA256",
    "Subject Key Identifier",
];
