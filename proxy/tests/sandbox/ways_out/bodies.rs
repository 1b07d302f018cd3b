//! What is asked in the tests of groups F and G. The threats suite asks the same from a hostile workload.

use assay_core::{control::proxy::ProxyAssignment, upstream::Dialect};
use serde_json::{Value, json};

/// Host, path, body, code.
pub(crate) type Way = (&'static str, &'static str, Value, &'static str);

/// The model service's name.
pub(crate) const MODEL_HOST: &str = "models.example.com";
/// The host that speaks like OpenAI, with [`every_service`].
pub(crate) const OPENAI_HOST: &str = "openai.example.com";
/// The host that speaks like Anthropic, with [`every_service`].
pub(crate) const ANTHROPIC_HOST: &str = "anthropic.example.com";
/// Adds a service of each other dialect, at the same address.
pub(crate) fn every_service(assignment: &mut ProxyAssignment) {
    for (host, dialect) in [
        (OPENAI_HOST, Dialect::OpenAi),
        (ANTHROPIC_HOST, Dialect::Anthropic),
    ] {
        let mut upstream = assignment.upstreams[0].clone();
        (upstream.host, upstream.dialect) = (host.parse().unwrap(), dialect);
        "/v1".clone_into(&mut upstream.base_path);
        assignment.upstreams.push(upstream);
    }
}

/// How such a body is sent.
pub(crate) fn method(body: &Value) -> &'static str {
    if body.is_null() { "GET" } else { "POST" }
}

pub(crate) const CHAT: &str = "/api/v1/chat/completions";
pub(crate) const RESPONSES: &str = "/api/v1/responses";
pub(crate) const MESSAGES: &str = "/api/v1/messages";
pub(crate) const EMBEDDINGS: &str = "/api/v1/embeddings";

/// A request for the small model, with more fields.
pub(crate) fn chat(fields: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    with(json!({"model": "test/small", "messages": messages}), fields)
}

pub(crate) fn with(base: Value, fields: &Value) -> Value {
    let mut body = base;
    if let (Some(body), Some(fields)) = (body.as_object_mut(), fields.as_object()) {
        body.extend(fields.clone());
    }
    body
}

pub(crate) fn response(fields: &Value) -> Value {
    with(json!({"model": "test/small", "input": "hi"}), fields)
}

pub(crate) fn message(fields: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    with(
        json!({"model": "test/small", "max_tokens": 100, "messages": messages}),
        fields,
    )
}

/// The same fields in chats, responses and messages of the router.
pub(crate) fn everywhere(fields: &Value, code: &'static str) -> Vec<Way> {
    vec![
        (MODEL_HOST, CHAT, chat(fields), code),
        (MODEL_HOST, RESPONSES, response(fields), code),
        (MODEL_HOST, MESSAGES, message(fields), code),
    ]
}

pub(crate) fn each(all: &[Value], code: &'static str) -> Vec<Way> {
    all.iter().flat_map(|fields| everywhere(fields, code)).collect()
}

pub(crate) fn named(names: &[&str]) -> Vec<Way> {
    let fields: Vec<Value> = names.iter().map(|name| json!({"model": name})).collect();
    let mut ways = each(&fields, "model_not_allowed");
    let embed = |name: &&str| {
        (
            MODEL_HOST,
            EMBEDDINGS,
            json!({"model": name, "input": "hi"}),
            "model_not_allowed",
        )
    };
    ways.extend(names.iter().map(embed));
    ways
}

/// A tool, in every API that takes tools.
pub(crate) fn tools(all: &[Value]) -> Vec<Way> {
    let fields: Vec<Value> = all.iter().map(|tool| json!({"tools": [tool]})).collect();
    each(&fields, "tool_not_allowed")
}

pub(crate) fn paths(all: &[&'static str]) -> Vec<Way> {
    all.iter()
        .map(|path| (MODEL_HOST, *path, chat(&json!({})), "path_not_allowed"))
        .collect()
}

pub(crate) fn reads(all: &[&'static str]) -> Vec<Way> {
    all.iter()
        .map(|path| (MODEL_HOST, *path, Value::Null, "path_not_allowed"))
        .collect()
}

pub(crate) fn part(api: &'static str, part: &Value, code: &'static str) -> Way {
    let turns = json!([{"role": "user", "content": [part]}]);
    let key = if api == RESPONSES { "input" } else { "messages" };
    (MODEL_HOST, api, json!({"model": "test/small", key: turns}), code)
}
