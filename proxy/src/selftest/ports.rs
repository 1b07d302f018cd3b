//! Our own ports: what they must refuse to whoever has no key, and what the port for models refuses in every phase.
//!
//! No request here could spend anything where it got through: none names a model that exists.

use assay_core::egress::port;

use super::{
    Probe, Verdict,
    talk::{self, local},
};

pub(super) const PROBES: &[Probe] = &[
    probe("C11", "unsigned calls to our own ports", || {
        Verdict::all(CALLS.iter().map(|(port, call)| unsigned(*port, call)))
    }),
    probe("C12", "switching the phase", || {
        unsigned(port::PROXY, "POST /v1/phase")
    }),
    probe("D1", "ambiguous requests for models", || {
        Verdict::all(AMBIGUOUS.iter().map(|headers| not_understood(headers)))
    }),
    probe("D2", "a second request in a pipeline", pipeline),
    probe("D3", "HTTP/2 without asking", || {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        talk::refused_by_ours(port::MODEL_API, talk::first(local(port::MODEL_API), &[preface]))
    }),
    probe("D4", "upgrade to cleartext HTTP/2", upgrade),
    probe("D5", "WebSocket", || {
        let headers = "upgrade: websocket\r\nsec-websocket-version: 13\r\n";
        denied("GET", "/v1/realtime", headers, "", &["upgrade_not_allowed"])
    }),
    probe("D6", "CONNECT and absolute form", || {
        Verdict::all([
            denied("CONNECT", "192.0.2.1:443", "", "", &["form_not_allowed"]),
            denied("GET", "http://192.0.2.1/v1/models", "", "", &["form_not_allowed"]),
        ])
    }),
    probe("D7", "tricks in the path", || paths("GET", ODD_PATHS)),
    probe("D8", "methods and their overrides", || {
        let override_ = "x-http-method-override: GET\r\n";
        Verdict::all([
            paths("DELETE", &["/v1/models"]),
            paths("PUT", &["/v1/chat/completions"]),
            denied("PATCH", "/v1/models", override_, "", PATH),
        ])
    }),
    probe("D10", "compressed bodies", || {
        Verdict::all(["gzip", "br", "deflate, gzip"].map(|coding| {
            let headers = format!("{JSON}content-encoding: {coding}\r\n");
            denied("POST", CHAT, &headers, "x", &["content_encoding_not_allowed"])
        }))
    }),
    probe("D12", "other content types", || {
        typed(&["text/plain", "application/x-www-form-urlencoded", ""])
    }),
    probe("D13", "other character sets", || {
        typed(&["application/json; charset=utf-16"])
    }),
    probe("E1", "a key twice", || {
        Verdict::all([
            body(
                r#"{"model":"selftest/none","model":"selftest/other"}"#,
                &["duplicate_key"],
            ),
            body(
                r#"{"model":"selftest/none","metadata":{"a":1,"a":2}}"#,
                &["duplicate_key"],
            ),
        ])
    }),
    probe("E4", "a model that is no text", || {
        let no_model = &["model_missing", "model_not_allowed", "field_invalid"];
        Verdict::all(
            [r#"["selftest/none"]"#, "1", "null", "{}"]
                .map(|model| body(&format!(r#"{{"model":{model}}}"#), no_model)),
        )
    }),
    probe("E5", "depth and numbers", || {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
        Verdict::all([
            body(&deep, &["body_malformed"]),
            body(
                r#"{"model":"selftest/none","temperature":1e999}"#,
                &["body_malformed"],
            ),
        ])
    }),
    probe("E6", "a model in the path", || paths("POST", MODEL_PATHS)),
    probe("E7", "a model in a form", || {
        typed(&["multipart/form-data; boundary=x"])
    }),
    probe("E8", "work that runs later", || {
        paths("POST", &["/v1/batches", "/v1/files", "/v1/videos"])
    }),
    probe("F15", "other endpoints", || paths("POST", OTHER_PATHS)),
    probe("F16", "account endpoints", || paths("GET", ACCOUNT_PATHS)),
    probe("G5", "another form of API", || {
        paths("POST", &["/v1beta/models/selftest:generateContent"])
    }),
    probe("G6", "paths of clouds", || paths("POST", CLOUD_PATHS)),
    probe("H18", "the usage of others", || {
        let query = &["query_not_allowed"];
        Verdict::all(
            ["/usage?run=1", "/v1/generation?id=gen-1"].map(|path| denied("GET", path, "", "", query)),
        )
    }),
    probe("J4", "hostile bytes", hostile),
];

pub(super) const fn probe(row: &'static str, what: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { row, what, run }
}

fn unsigned(port: u16, call: &str) -> Verdict {
    let request =
        format!("{call} HTTP/1.1\r\nhost: sandbox\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    match talk::first(local(port), &[request.as_bytes()]) {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 401") => Verdict::Closed(talk::status(&answer)),
        Ok(answer) => Verdict::Open(talk::status(&answer)),
        Err(error) => talk::not_ours(port, &error),
    }
}

/// Asks the port for models; one of these codes must be the answer.
pub(super) fn denied(method: &str, path: &str, headers: &str, body: &str, codes: &[&str]) -> Verdict {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    let answer = match talk::all(local(port::MODEL_API), request.as_bytes()) {
        Ok(answer) => answer,
        Err(error) => return talk::not_ours(port::MODEL_API, &error),
    };
    match code(&answer) {
        Some(code) if codes.contains(&code.as_str()) => Verdict::Closed(code),
        // Without any model to call no body is judged.
        Some(code) if code == "no_models" => {
            Verdict::Untried("no model may be called in this phase".to_owned())
        }
        Some(code) if code == "model_not_allowed" => {
            Verdict::Untried("only real models may be called here, and an open way would bill".to_owned())
        }
        Some(code) => Verdict::Open(format!("{} for another reason: {code}", talk::status(&answer))),
        None => Verdict::Open(talk::status(&answer)),
    }
}

/// The reason in a refusal of ours.
fn code(answer: &[u8]) -> Option<String> {
    let start = answer.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let document: serde_json::Value = serde_json::from_slice(&answer[start..]).ok()?;
    document["error"]["code"].as_str().map(str::to_owned)
}

pub(super) fn paths(method: &str, paths: &[&str]) -> Verdict {
    let headers = if method == "GET" { "" } else { JSON };
    Verdict::all(paths.iter().map(|path| denied(method, path, headers, "", PATH)))
}

fn typed(kinds: &[&str]) -> Verdict {
    Verdict::all(kinds.iter().map(|kind| {
        let headers = format!("content-type: {kind}\r\n");
        denied("POST", CHAT, &headers, "{}", &["content_type_not_allowed"])
    }))
}

fn body(text: &str, codes: &[&str]) -> Verdict {
    denied("POST", CHAT, JSON, text, codes)
}

/// The parser itself must refuse: whatever comes after it would have understood something.
fn not_understood(headers: &str) -> Verdict {
    let request = format!("POST {CHAT} HTTP/1.1\r\nhost: sandbox\r\n{headers}\r\n\r\n12345");
    match talk::all(local(port::MODEL_API), request.as_bytes()) {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 400") => Verdict::Closed(talk::status(&answer)),
        Ok(answer) => Verdict::Open(format!("{} for {headers:?}", talk::status(&answer))),
        Err(error) => talk::not_ours(port::MODEL_API, &error),
    }
}

/// The first may pass, the second not.
fn pipeline() -> Verdict {
    let pair = "GET /v1/models HTTP/1.1\r\nhost: sandbox\r\n\r\nGET /v1/keys HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\n\r\n";
    let answer = match talk::all(local(port::MODEL_API), pair.as_bytes()) {
        Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => return talk::not_ours(port::MODEL_API, &error),
    };
    let statuses: Vec<_> = answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|part| part.get(..3))
        .collect();
    if statuses == [Some("200"), Some("403")] {
        Verdict::Closed("the second was refused alone".to_owned())
    } else {
        Verdict::Open(format!("answered {statuses:?}"))
    }
}

/// Some libraries offer it with every request; the answer is one in HTTP/1.1.
fn upgrade() -> Verdict {
    let request = "GET /v1/keys HTTP/1.1\r\nhost: sandbox\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    talk::refused_by_ours(
        port::MODEL_API,
        talk::first(local(port::MODEL_API), &[request.as_bytes()]),
    )
}

/// Each port gets what it cannot read; afterwards the proxy must still be there.
fn hostile() -> Verdict {
    let noise: Vec<u8> = (0..=u8::MAX).cycle().take(5_000).collect();
    for port in [
        port::TLS,
        port::HTTP,
        port::OTHER_TCP,
        port::DNS,
        port::MODEL_API,
        port::PROXY,
        port::RUNNER,
    ] {
        // How each takes it is the matter of other rows.
        drop(talk::first(local(port), &[&noise]));
    }
    let health = b"GET /healthz HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\n\r\n";
    match talk::first(local(port::PROXY), &[health]) {
        Ok(answer) if answer.starts_with(b"HTTP/1.1 200") => Verdict::Closed("the proxy goes on".to_owned()),
        Ok(answer) => Verdict::Open(talk::status(&answer)),
        Err(error) => talk::not_ours(port::PROXY, &error),
    }
}

/// Heads that two readers could understand in two ways.
pub(super) const AMBIGUOUS: &[&str] = &[
    "content-length: 5\r\ncontent-length: 6",
    "content-length: +5",
    "content-length: -1",
    "content-length: 99999999999999999999",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding : chunked",
    "x: a\r\n folded",
    "x: a\0b",
];
const CALLS: &[(u16, &str)] = &[
    (port::PROXY, "GET /v1/ledger"),
    (port::PROXY, "GET /v1/audit"),
    (port::PROXY, "GET /v1/metrics"),
    (port::PROXY, "POST /v1/probe"),
    (port::PROXY, "POST /v1/collected"),
    (port::RUNNER, "POST /v1/execute"),
    (port::RUNNER, "POST /v1/kill"),
];
const ODD_PATHS: &[&str] = &[
    "//v1/models",
    "/v1//models",
    "/v1/../v1/keys",
    "/v1/%6dodels",
    "/v1/models;x",
    "/v1/models/",
    "/V1/models",
];
const MODEL_PATHS: &[&str] = &[
    "/v1/engines/selftest/completions",
    "/v1/models/selftest:generateContent",
];
const OTHER_PATHS: &[&str] = &[
    "/v1/images",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/rerank",
    "/v1/moderations",
    "/v1/realtime",
];
const ACCOUNT_PATHS: &[&str] = &[
    "/v1/key",
    "/v1/keys",
    "/v1/credits",
    "/v1/activity",
    "/v1/generation",
    "/v1/workspaces",
];
const CLOUD_PATHS: &[&str] = &[
    "/openai/deployments/selftest/chat/completions",
    "/model/selftest/invoke",
];
const PATH: &[&str] = &["path_not_allowed"];
const CHAT: &str = "/v1/chat/completions";
pub(super) const JSON: &str = "content-type: application/json\r\n";
