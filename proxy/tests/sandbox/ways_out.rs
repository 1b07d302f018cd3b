//! Every way out of the allow-list of models that the routers and providers offer: the body, 403, a stable code, and not
//! one byte to the service. Each test names the row of the threat list that it closes.

use serde_json::{Value, json};

use crate::{
    chat,
    model::{Model, Script},
    world::{MODEL_HOST, World, every_service, tls},
};

#[path = "ways_out/inputs.rs"]
mod inputs;
#[path = "ways_out/models.rs"]
mod models;
#[path = "ways_out/others.rs"]
mod others;

/// Host, path, body, code.
type Way = (&'static str, &'static str, Value, &'static str);

/// Each of these arrives at a service when nobody is in between, and none through the proxy.
async fn refused(ways: Vec<Way>) {
    let world = World::with(Script::answer(1, 1), every_service).await;
    arrive(&world.model, &ways).await;
    let before = world.model.connections();
    for (host, path, body, code) in ways {
        let method = method(&body);
        let mut connection = world.open_tls(host).await.unwrap();
        connection.send(method, path, &[], &body).await;
        let answer = connection.receive().await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, error["code"].as_str()),
            (403, Some(code)),
            "{method} {host}{path} {body}: {error}"
        );
        assert_eq!(error["retryable"], false);
    }
    assert_eq!(world.model.connections(), before);
    assert_eq!(world.ledger().await.requests, 0);
}

async fn arrive(model: &Model, ways: &[Way]) {
    for (host, path, body, _) in ways {
        let mut straight = tls(model.address, host, &model.root_pem).await.unwrap();
        straight.send(method(body), path, &[], body).await;
        straight.receive().await;
    }
    let sent = ways
        .iter()
        .map(|(_, path, body, _)| (method(body).to_owned(), (*path).to_owned(), body.clone()));
    assert_eq!(model.arrivals(), sent.collect::<Vec<_>>());
}

fn method(body: &Value) -> &'static str {
    if body.is_null() { "GET" } else { "POST" }
}

const CHAT: &str = "/api/v1/chat/completions";
const RESPONSES: &str = "/api/v1/responses";
const MESSAGES: &str = "/api/v1/messages";
const EMBEDDINGS: &str = "/api/v1/embeddings";

fn with(base: Value, fields: &Value) -> Value {
    let mut body = base;
    if let (Some(body), Some(fields)) = (body.as_object_mut(), fields.as_object()) {
        body.extend(fields.clone());
    }
    body
}

fn response(fields: &Value) -> Value {
    with(json!({"model": "test/small", "input": "hi"}), fields)
}

fn message(fields: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    with(
        json!({"model": "test/small", "max_tokens": 100, "messages": messages}),
        fields,
    )
}

/// The same fields in chats, responses and messages of the router.
fn everywhere(fields: &Value, code: &'static str) -> Vec<Way> {
    vec![
        (MODEL_HOST, CHAT, chat(fields), code),
        (MODEL_HOST, RESPONSES, response(fields), code),
        (MODEL_HOST, MESSAGES, message(fields), code),
    ]
}

fn each(all: &[Value], code: &'static str) -> Vec<Way> {
    all.iter().flat_map(|fields| everywhere(fields, code)).collect()
}

fn named(names: &[&str]) -> Vec<Way> {
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
fn tools(all: &[Value]) -> Vec<Way> {
    let fields: Vec<Value> = all.iter().map(|tool| json!({"tools": [tool]})).collect();
    each(&fields, "tool_not_allowed")
}

fn paths(all: &[&'static str]) -> Vec<Way> {
    all.iter()
        .map(|path| (MODEL_HOST, *path, chat(&json!({})), "path_not_allowed"))
        .collect()
}

fn reads(all: &[&'static str]) -> Vec<Way> {
    all.iter()
        .map(|path| (MODEL_HOST, *path, Value::Null, "path_not_allowed"))
        .collect()
}

fn part(api: &'static str, part: &Value, code: &'static str) -> Way {
    let turns = json!([{"role": "user", "content": [part]}]);
    let key = if api == RESPONSES { "input" } else { "messages" };
    (MODEL_HOST, api, json!({"model": "test/small", key: turns}), code)
}
