//! Every API, whole and as a stream, through the opened host and the plain port: forwarded, passed on, and settled.

use serde_json::{Value, json};

use crate::{
    model::Script,
    world::{ANTHROPIC_HOST, MODEL_HOST, OPENAI_HOST, World, every_service},
};

/// The path after the base, and the smallest body.
fn calls() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "hi"}]);
    vec![
        (
            "/chat/completions",
            json!({"model": "test/small", "messages": messages}),
        ),
        ("/responses", json!({"model": "test/small", "input": "hi"})),
        (
            "/messages",
            json!({"model": "test/small", "max_tokens": 100, "messages": messages}),
        ),
        ("/completions", json!({"model": "test/small", "prompt": "hi"})),
        ("/embeddings", json!({"model": "test/small", "input": "hi"})),
        (
            "/messages/count_tokens",
            json!({"model": "test/small", "messages": messages}),
        ),
    ]
}

/// Hosts, their bases, and the APIs that they speak.
const SERVICES: [(&str, &str, &[&str]); 3] = [
    (
        MODEL_HOST,
        "/api/v1",
        &[
            "/chat/completions",
            "/responses",
            "/messages",
            "/completions",
            "/embeddings",
        ],
    ),
    (
        OPENAI_HOST,
        "/v1",
        &["/chat/completions", "/responses", "/completions", "/embeddings"],
    ),
    (ANTHROPIC_HOST, "/v1", &["/messages", "/messages/count_tokens"]),
];

/// 100 tokens in and 10 out, by the table.
fn cost(path: &str) -> &'static str {
    match path {
        "/embeddings" => "0.0001",
        "/messages/count_tokens" => "0",
        _ => "0.00012",
    }
}

#[tokio::test]
async fn every_service_is_called_by_each_api_that_it_speaks() {
    for (host, base, spoken) in SERVICES {
        for (path, body) in calls().into_iter().filter(|(path, _)| spoken.contains(path)) {
            let world = World::with(Script::answer(100, 10), every_service).await;
            let mut connection = world.open_tls(host).await.unwrap();
            let answer = connection.post(&format!("{base}{path}"), &[], &body).await;
            assert_eq!(answer.status, 200, "{host}{path}: {}", answer.text());
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let ledger = world.settled_ledger().await;
            assert_eq!(ledger.settled.to_string(), cost(path), "{host}{path}");
            assert_eq!(
                (ledger.requests, ledger.answers, ledger.unresolved.pico()),
                (1, 1, 0),
                "{host}{path}"
            );
            assert_eq!(world.model.requests()[0].path, format!("{base}{path}"));
        }
    }
}

#[tokio::test]
async fn every_api_that_streams_is_streamed_and_settled() {
    for (path, mut body) in calls() {
        if cost(path) != "0.00012" {
            continue;
        }
        body["stream"] = json!(true);
        let world = World::start(Script::answer(100, 10)).await;
        let answer = world
            .plain_model()
            .await
            .post(&format!("/v1{path}"), &[], &body)
            .await;
        assert_eq!(
            answer.header("content-type"),
            Some("text/event-stream"),
            "{path}: {}",
            answer.text()
        );
        assert!(answer.text().contains("scripted"), "{path}");
        assert_eq!(
            world.settled_ledger().await.settled.to_string(),
            "0.00012",
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_plain_port_finds_the_service_that_speaks_the_api() {
    // The first service in the list speaks everything but this.
    let world = World::with(Script::answer(100, 10), |assignment| {
        every_service(assignment);
        assignment.upstreams.rotate_left(1);
    })
    .await;
    let (_, body) = calls().remove(2);
    let answer = world
        .plain_model()
        .await
        .post("/v1/messages?beta=true", &[], &body)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.model.requests()[0].path, "/v1/messages");
    assert_eq!(world.model.requests()[0].header("x-api-key"), Some("sk-real"));
}

#[tokio::test]
async fn models_are_answered_from_the_policy_in_both_forms() {
    let world = World::with(Script::answer(1, 1), every_service).await;
    for (host, path) in [(MODEL_HOST, "/api/v1/models"), (ANTHROPIC_HOST, "/v1/models")] {
        let models = world.open_tls(host).await.unwrap().get(path).await.json();
        assert_eq!(
            (&models["object"], &models["has_more"]),
            (&json!("list"), &json!(false))
        );
        let names: Vec<_> = models["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str())
            .collect();
        assert_eq!(names, [Some("test/large"), Some("test/small")]);
        assert_eq!(
            (&models["data"][0]["object"], &models["data"][0]["type"]),
            (&json!("model"), &json!("model"))
        );
    }
    assert_eq!(world.model.connections(), 0);
}
