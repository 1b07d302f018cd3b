//! Group E: JSON, and which model is meant.

use serde_json::{Value, json};

use crate::d_http::refused;

const MESSAGES: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

/// A case whose body is `{fields, messages}`, and its code.
fn body<'a>(name: &str, fields: &str, code: &'a str) -> (Value, &'a str) {
    (
        json!({"name": name, "body": format!("{{{fields},{MESSAGES}}}")}),
        code,
    )
}

#[test]
fn e1_a_key_that_occurs_twice_is_refused_at_any_depth() {
    let twice = "duplicate_key";
    refused(&[
        body(
            "allowed-last",
            r#""model":"evil/model","model":"test/small""#,
            twice,
        ),
        body(
            "allowed-first",
            r#""model":"test/small","model":"evil/model""#,
            twice,
        ),
        body(
            "escaped",
            r#""model":"test/small","mod\u0065l":"evil/model""#,
            twice,
        ),
        body(
            "deep",
            r#""model":"test/small","metadata":{"a":{"b":1,"b":2}}"#,
            twice,
        ),
    ]);
}

#[test]
fn e2_no_other_spelling_of_a_key_is_known() {
    let unknown = "field_not_allowed";
    refused(&[
        body("upper", r#""model":"test/small","MODEL":"evil/model""#, unknown),
        body("title", r#""model":"test/small","Model":"evil/model""#, unknown),
        body("space", r#""model":"test/small","model ":"evil/model""#, unknown),
        body(
            "only-upper",
            r#""MODEL":"test/small""#,
            "field_not_allowed|model_missing",
        ),
    ]);
}

#[test]
fn e3_models_are_compared_as_they_are_meant() {
    let other = "model_not_allowed";
    refused(&[
        body("homoglyph", r#""model":"tеst/small""#, other),
        body("zero-width", r#""model":"test/small\u200b""#, other),
        body("space", r#""model":" test/small""#, other),
        body("case", r#""model":"Test/Small""#, other),
        body("nul", r#""model":"test/small\u0000evil""#, other),
        body("suffix", r#""model":"test/small:online""#, other),
    ]);
}

#[test]
fn e4_the_model_must_be_one_allowed_text() {
    let wrong = "model_missing|model_not_allowed|field_invalid|field_not_allowed";
    refused(&[
        body("list", r#""model":["test/small"]"#, wrong),
        body("object", r#""model":{"id":"test/small"}"#, wrong),
        body("number", r#""model":1"#, wrong),
        body("null", r#""model":null"#, wrong),
        body("absent", r#""temperature":1"#, wrong),
        body("empty", r#""model":"""#, wrong),
    ]);
}

#[test]
fn e5_depth_and_numbers_have_bounds() {
    let deep = format!(
        r#""model":"test/small","metadata":{}1{}"#,
        r#"{"a":"#.repeat(500),
        "}".repeat(500)
    );
    let wrong = "body_malformed|field_invalid|field_not_allowed";
    refused(&[
        body("deep", &deep, wrong),
        body("endless", r#""model":"test/small","temperature":1e999"#, wrong),
        body("negative", r#""model":"test/small","max_tokens":-1"#, wrong),
        body("fraction", r#""model":"test/small","max_tokens":1.5"#, wrong),
        body(
            "huge",
            r#""model":"test/small","max_tokens":99999999999999999999999"#,
            wrong,
        ),
        body("many", r#""model":"test/small","n":1000"#, wrong),
    ]);
}

#[test]
fn e6_no_path_names_a_model() {
    let path = |name: &str, path: &str| (json!({"name": name, "path": path}), "path_not_allowed");
    refused(&[
        path("gemini", "/v1beta/models/evil:generateContent"),
        path("bedrock", "/model/evil/invoke"),
        path("azure", "/openai/deployments/evil/chat/completions"),
        path("engine", "/v1/engines/evil/completions"),
    ]);
}

#[test]
fn e7_no_form_carries_a_model() {
    let audio = json!({"name": "audio", "path": "/api/v1/audio/transcriptions",
        "headers": "content-type: multipart/form-data; boundary=x\r\n"});
    let form = json!({"name": "form", "headers": "content-type: multipart/form-data; boundary=x\r\n"});
    refused(&[(audio, "path_not_allowed"), (form, "content_type_not_allowed")]);
}

#[test]
fn e8_nothing_runs_later() {
    let path = |name: &str, path: &str| (json!({"name": name, "path": path}), "path_not_allowed");
    refused(&[
        path("batches", "/api/v1/batches"),
        path("files", "/api/v1/files"),
        path("videos", "/api/v1/videos"),
        body(
            "background",
            r#""model":"test/small","background":true"#,
            "field_not_allowed",
        ),
        body(
            "store",
            r#""model":"test/small","store":true"#,
            "field_not_allowed",
        ),
    ]);
}

#[test]
fn e9_an_alias_of_an_allowed_model_is_refused() {
    let other = "model_not_allowed";
    refused(&[
        body("author", r#""model":"~test/small-latest""#, other),
        body("latest", r#""model":"test/small-latest""#, other),
        body("dated", r#""model":"test/small-2026-01-01""#, other),
    ]);
}
