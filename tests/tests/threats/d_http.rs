//! Group D: the HTTP layer on opened hosts and on port 80.

use assay_tests::stage::{Outcome, Stage};
use serde_json::{Value, json};

use crate::scene::{ALLOWED, EVIL, GUARDED, METADATA, MODEL, OPEN, attack, both, through};

/// Calls the model service with each case, and tells status and code by the case's name.
pub(crate) fn calls(stage: &Stage, cases: &[Value]) -> (Outcome, Vec<(String, String, String)>) {
    let path = stage.path("cases.jsonl");
    let lines: Vec<String> = cases.iter().map(Value::to_string).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let outcome = attack(stage, "web.table", &[path.to_str().unwrap()]);
    let told = outcome.text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?, words.next().unwrap_or_default()))
    });
    let told = told.collect();
    (outcome, told)
}

/// Every case reaches the service in the open, and ends with its code (or one of several, `a|b`), and without a packet to the service, behind the proxy.
pub(crate) fn refused(cases: &[(Value, &str)]) {
    let bodies: Vec<Value> = cases.iter().map(|(case, _)| case.clone()).collect();
    let Some(open) = OPEN.take() else { return };
    let (outcome, told) = calls(&open, &bodies);
    assert_eq!(told.len(), cases.len());
    assert!(outcome.seen.reached(MODEL), "the attack itself does nothing");
    drop(open);
    let (outcome, told) = calls(&GUARDED.take().unwrap(), &bodies);
    assert_eq!(told.len(), cases.len());
    for ((name, status, code), (_, expected)) in told.iter().zip(cases) {
        assert!(status.starts_with('4'), "{name}: {status} {code}");
        assert!(
            expected.split('|').any(|expected| expected == code),
            "{name}: {code}, not {expected}"
        );
    }
    assert!(
        !outcome.seen.reached(MODEL),
        "not a byte reached the service: {:#?}",
        outcome.seen.packets
    );
}

/// Raw requests into an opened connection: none may reach the service.
fn raw_on_opened(requests: &[&str]) {
    for request in requests {
        let Some(both) = both("web.raw", &["443", request]) else {
            return;
        };
        assert!(both.open.seen.reached(MODEL));
        assert!(!both.guarded.seen.reached(MODEL), "{request}");
        assert!(!through(&both.guarded), "{request}");
    }
}

const HEAD: &str = r"POST /api/v1/chat/completions HTTP/1.1\r\nhost: models.example.com\r\nauthorization: Bearer sk-stage-real-credential\r\ncontent-type: application/json\r\n";

/// One head with more headers and a body.
fn request(headers: &str, body: &str) -> String {
    format!("{HEAD}{headers}\\r\\n{body}")
}

#[test]
fn d1_no_ambiguous_request_is_understood_on_an_opened_host() {
    let body = r#"{\"model\":\"test/small\"}"#;
    let odd = [
        request(
            "content-length: 5\\r\\ntransfer-encoding: chunked\\r\\n",
            "0\\r\\n\\r\\nGET /x",
        ),
        request("content-length: 5\\r\\ncontent-length: 6\\r\\n", "12345"),
        request("content-length: +5\\r\\n", "12345"),
        request("transfer-encoding: xchunked\\r\\n", "0\\r\\n\\r\\n"),
        request("transfer-encoding: chunked, identity\\r\\n", "0\\r\\n\\r\\n"),
        request("transfer-encoding : chunked\\r\\n", "0\\r\\n\\r\\n"),
        request("x: a\\r\\n folded\\r\\ncontent-length: 2\\r\\n", "{}"),
        request("x: a\\x00b\\r\\ncontent-length: 2\\r\\n", "{}"),
        request("content-length: -1\\r\\n", body),
        request("content-length: 99999999999999999999\\r\\n", body),
        "POST\\t/api/v1/chat/completions HTTP/1.1\\r\\nhost: models.example.com\\r\\n\\r\\n".to_owned(),
        "POST /api/v1/chat/completions HTTP/9.9\\r\\nhost: models.example.com\\r\\n\\r\\n".to_owned(),
        "GET /api/v1/models HTTP/1.1\\r\\nhost: models.example.com\\r\\nhost: evil.example\\r\\n\\r\\n"
            .to_owned(),
    ];
    raw_on_opened(&odd.each_ref().map(String::as_str));
}

#[test]
fn d1_no_request_is_smuggled_through_port_80() {
    for request in [
        r"POST / HTTP/1.1\r\nhost: allowed.example\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        r"POST / HTTP/1.1\r\nhost: allowed.example\r\ncontent-length: 0\r\ncontent-length: 60\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        r"POST / HTTP/1.1\r\nhost: allowed.example\r\ntransfer-encoding: xchunked\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        r"GET / HTTP/1.1\r\nhost: allowed.example\r\nhost: evil.example\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        r"GET http://evil.example/smuggled HTTP/1.1\r\nhost: allowed.example\r\n\r\n",
        r"GET / HTTP/1.1\nhost: evil.example\n\nGET /smuggled HTTP/1.1\nhost: evil.example\n\n",
    ] {
        let Some(both) = both("web.raw", &["80", request]) else {
            return;
        };
        assert!(
            both.open
                .seen
                .visits
                .iter()
                .any(|visit| visit.text.contains("smuggled"))
        );
        let seen = &both.guarded.seen;
        assert!(!seen.reached(EVIL));
        assert!(
            seen.visits
                .iter()
                .all(|visit| !visit.text.contains("/smuggled HTTP/1.1")),
            "{:?}",
            seen.visits
        );
    }
}

#[test]
fn d2_each_request_of_a_pipeline_is_judged() {
    let pair = r"GET /api/v1/models HTTP/1.1\r\nhost: models.example.com\r\n\r\nGET /api/v1/keys HTTP/1.1\r\nhost: models.example.com\r\n\r\n";
    let Some(both) = both("web.raw", &["443", pair]) else {
        return;
    };
    assert!(both.open.seen.reached(MODEL));
    assert!(
        both.guarded.text.contains("HTTP/1.1 200', 'HTTP/1.1 403"),
        "{}",
        both.guarded.text
    );
    assert!(!both.guarded.seen.reached(MODEL));
}

#[test]
fn d3_only_http_1_1_is_spoken_on_opened_hosts() {
    let Some(both) = both("web.preface", &[]) else {
        return;
    };
    assert!(both.open.seen.reached(MODEL));
    assert!(!through(&both.guarded) && !both.guarded.seen.reached(MODEL));
    let stage = GUARDED.take().unwrap();
    let chosen = attack(
        &stage,
        "tls.negotiated",
        &["models.example.com", "h2", "http/1.1"],
    );
    assert!(chosen.text.contains("chosen http/1.1"), "{}", chosen.text);
    assert!(
        !attack(&stage, "tls.negotiated", &["models.example.com", "h2"])
            .text
            .contains("chosen h2")
    );
}

#[test]
fn d4_no_upgrade_to_cleartext_http_2() {
    upgrade_is_refused("h2c");
    raw_on_opened(&[r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]);
}

#[test]
fn d4_an_offer_of_cleartext_http_2_is_passed_over() {
    let offer = r"GET / HTTP/1.1\r\nhost: allowed.example\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n";
    let Some(both) = both("web.raw", &["80", offer]) else {
        return;
    };
    let offered = |outcome: &assay_tests::stage::Outcome| {
        let visits = outcome.seen.visits.iter();
        visits
            .filter(|visit| visit.text.to_lowercase().contains("h2c") || visit.text.contains("AAMAAABk"))
            .count()
    };
    assert_eq!((offered(&both.open), offered(&both.guarded)), (1, 0));
    assert!(both.guarded.text.contains("200"), "{}", both.guarded.text);
}

#[test]
fn d5_no_websocket() {
    upgrade_is_refused("websocket");
    let answered = r"GET /switch HTTP/1.1\r\nhost: allowed.example\r\n\r\n";
    let Some(both) = both("web.raw", &["80", answered]) else {
        return;
    };
    assert!(both.open.text.contains("101"));
    assert!(
        !both.guarded.text.contains("101"),
        "not on port 80 either: {}",
        both.guarded.text
    );
}

fn upgrade_is_refused(protocol: &str) {
    let Some(both) = both("web.upgrade", &[protocol]) else {
        return;
    };
    assert!(both.open.seen.reached(MODEL));
    assert!(both.guarded.text.contains("403 upgrade_not_allowed"));
    assert!(!both.guarded.seen.reached(MODEL));
}

#[test]
fn d6_no_connect_and_no_absolute_form() {
    raw_on_opened(&[
        r"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n",
        r"CONNECT models.example.com:443 HTTP/1.1\r\nhost: models.example.com\r\n\r\n",
        r"GET https://evil.example/ HTTP/1.1\r\nhost: models.example.com\r\n\r\n",
        r"OPTIONS * HTTP/1.1\r\nhost: models.example.com\r\n\r\n",
    ]);
    let connect = r"CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n";
    let plain = attack(&GUARDED.take().unwrap(), "web.raw", &["80", connect]);
    assert!(!through(&plain) && !plain.seen.reached(METADATA));
}

#[test]
fn d7_paths_are_matched_exactly() {
    let paths = [
        "//api/v1/chat/completions",
        "/api/v1//chat/completions",
        "/api/v1/./chat/completions",
        "/api/v1/chat/../chat/completions",
        "/api/v1/%2e%2e/v1/chat/completions",
        "/api/v1/chat%2fcompletions",
        "/api/v1/chat/completions;x=1",
        "/API/v1/chat/completions",
        "/api/v1/chat/completions/",
        "/api/v1\\chat\\completions",
        "/api/v1/keys",
        "/api/v1/generation/content",
        "/chat/completions",
    ];
    let cases: Vec<(Value, &str)> = paths
        .iter()
        .map(|path| {
            (
                json!({"name": format!("path{}", path.len()), "path": path}),
                "path_not_allowed",
            )
        })
        .collect();
    refused(&cases);
    refused(&[(
        json!({"name": "query", "path": "/api/v1/chat/completions?model=x"}),
        "query_not_allowed",
    )]);
}

#[test]
fn d8_methods_are_matched_exactly_and_no_header_overrides_them() {
    let method = |method: &str| (json!({"name": method, "method": method}), "path_not_allowed");
    refused(&[method("GET"), method("PUT"), method("DELETE"), method("PATCH")]);
    let overriding = json!({"name": "override", "path": "/api/v1/keys",
        "headers": "x-http-method-override: GET\r\ncontent-type: application/json\r\n"});
    refused(&[(overriding, "path_not_allowed")]);
}

#[test]
fn d9_connection_headers_take_nothing_from_ours() {
    let headers = "connection: authorization, content-length\r\ncontent-type: application/json\r\n";
    // Who adds the credential first and then drops what Connection names, as the standard says, loses it.
    let sent = format!("{headers}authorization: Bearer ours\r\n");
    let naive = without_named_by_connection(&sent);
    assert!(!naive.contains("authorization") && naive.contains("content-type"));
    let case = json!({"name": "connection", "headers": headers});
    let Some(stage) = GUARDED.take() else { return };
    let (outcome, told) = calls(&stage, &[case]);
    assert_eq!(told[0].1, "200", "the service got our credential: {told:?}");
    assert!(outcome.seen.reached(MODEL));
}

/// RFC 9110, 7.6.1, by the letter.
fn without_named_by_connection(headers: &str) -> String {
    let fields: Vec<(&str, &str)> = headers.lines().filter_map(|line| line.split_once(": ")).collect();
    let named: Vec<&str> = fields
        .iter()
        .filter(|(name, _)| *name == "connection")
        .flat_map(|(_, value)| value.split(", "))
        .chain(["connection"])
        .collect();
    let kept = fields.iter().filter(|(name, _)| !named.contains(name));
    kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

#[test]
fn d10_compressed_bodies_are_refused() {
    let coding = |coding: &str| {
        let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
        (
            json!({"name": coding.replace(", ", "+"), "headers": headers}),
            "content_encoding_not_allowed",
        )
    };
    refused(&[
        coding("gzip"),
        coding("br"),
        coding("zstd"),
        coding("deflate"),
        coding("gzip, gzip"),
        coding("identity, gzip"),
    ]);
}

#[test]
fn d11_a_body_without_end_is_cut_off() {
    let Some(both) = both("web.endless", &["40"]) else {
        return;
    };
    assert!(both.open.text.contains("sent 40"), "{}", both.open.text);
    let endless = &both.guarded;
    assert!(
        endless.text.contains("cut off")
            || endless.text.contains("body_too_large")
            || endless.text.contains("closed")
    );
    assert!(!endless.text.contains("sent 40"));
    assert!(!endless.seen.reached(MODEL));
}

#[test]
fn d12_only_json_is_a_body() {
    let kind = |name: &str, kind: &str| {
        let headers = format!("content-type: {kind}\r\n");
        (
            json!({"name": name, "headers": headers}),
            "content_type_not_allowed",
        )
    };
    refused(&[
        kind("text", "text/plain"),
        kind("form", "application/x-www-form-urlencoded"),
        kind("multipart", "multipart/form-data; boundary=x"),
        kind("utf16", "application/json; charset=utf-16"),
        kind("twice", "application/json\r\ncontent-type: text/plain"),
        kind("parameter", "application/json; boundary=x"),
    ]);
}

#[test]
fn d13_only_utf_8_is_json() {
    let text = r#"{"model":"test/small","messages":[{"role":"user","content":"hi"}]}"#;
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let with = |name: &str, bytes: &[u8]| (json!({"name": name, "hex": hex(bytes)}), "body_malformed");
    refused(&[
        with("bom", &[b"\xef\xbb\xbf", text.as_bytes()].concat()),
        with("utf16", &utf16),
        with("utf16-bom", &[b"\xff\xfe", utf16.as_slice()].concat()),
        with(
            "invalid",
            &text
                .replace("hi", "\u{1}")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == 1 { 0xff } else { *byte })
                .collect::<Vec<_>>(),
        ),
    ]);
}

#[test]
fn d14_trailers_are_dropped() {
    let trailed = format!(
        "{HEAD}transfer-encoding: chunked\\r\\ntrailer: x-late\\r\\n\\r\\n0\\r\\nx-late: 1\\r\\nauthorization: Bearer evil\\r\\n\\r\\n"
    );
    let plain = r"POST / HTTP/1.1\r\nhost: allowed.example\r\ntransfer-encoding: chunked\r\ntrailer: x-late\r\n\r\n2\r\nhi\r\n0\r\nx-late: 1\r\n\r\n";
    raw_on_opened(&[&trailed]);
    let Some(both) = both("web.raw", &["80", plain]) else {
        return;
    };
    let tells = |outcome: &Outcome| {
        outcome
            .seen
            .visits
            .iter()
            .any(|visit| visit.text.contains("x-late: 1"))
    };
    assert!(tells(&both.open) && !tells(&both.guarded));
}

#[test]
fn d15_expect_is_answered_by_us() {
    let expecting =
        r"POST / HTTP/1.1\r\nhost: allowed.example\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi";
    let Some(both) = both("web.raw", &["80", expecting]) else {
        return;
    };
    let tells = |outcome: &Outcome| {
        outcome
            .seen
            .visits
            .iter()
            .any(|visit| visit.text.contains("100-continue"))
    };
    assert!(tells(&both.open) && !tells(&both.guarded));
    assert!(both.guarded.seen.visited(ALLOWED));
}
