//! What we have our own word on, and who answers.

use serde_json::json;

use super::bodies::{ANTHROPIC_HOST, CHAT, MODEL_HOST, OPENAI_HOST, chat, every_service, message};
use crate::{model::Script, world::World};

#[tokio::test]
async fn f12_f14_f19_what_we_have_our_own_word_on_is_overwritten() {
    let world = World::with(Script::answer(1, 1), every_service).await;
    let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
    let fields = json!({
        "provider": {"only": ["evil"], "order": ["evil"], "sort": {"by": "price", "partition": "none"}, "allow_fallbacks": true},
        "max_tokens": 3_000, "max_completion_tokens": 2_000,
        "user": "shared", "session_id": "shared", "prompt_cache_key": "shared", "safety_identifier": "shared",
    });
    let answer = connection.post(CHAT, &[], &chat(&fields)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = &world.model.requests()[0].body;
    assert_eq!(
        (&sent["provider"]["data_collection"], &sent["provider"]["zdr"]),
        (&json!("deny"), &json!(true))
    );
    assert_eq!(
        sent["provider"]["max_price"],
        json!({"prompt": "1", "completion": "2", "request": "0"})
    );
    assert!(
        !sent.to_string().contains("evil") && !sent.to_string().contains("shared"),
        "{sent}"
    );
    assert_eq!(
        (&sent["max_tokens"], sent.get("max_completion_tokens")),
        (&json!(2_000), None)
    );
    assert_eq!(sent["user"], "01900000-0000-7000-8000-000000000002");
}

#[tokio::test]
async fn f17_g3_no_header_of_the_workload_is_forwarded() {
    let world = World::with(Script::answer(1, 1), every_service).await;
    let headers = [
        ("authorization", "Bearer placeholder"),
        ("x-api-key", "placeholder"),
        ("anthropic-beta", "context-1m-2025-08-07,fast-mode-2026-02-01"),
        ("anthropic-version", "2099-01-01"),
        ("x-openrouter-cache", "true"),
        ("x-openrouter-metadata", "x"),
        ("x-openrouter-title", "x"),
        ("http-referer", "x"),
        ("x-http-method-override", "GET"),
        ("openai-organization", "x"),
    ];
    let calls = [
        (MODEL_HOST, CHAT, chat(&json!({}))),
        (ANTHROPIC_HOST, "/v1/messages", message(&json!({}))),
    ];
    for (host, path, body) in calls {
        let mut connection = world.open_tls(host).await.unwrap();
        assert_eq!(connection.post(path, &headers, &body).await.status, 200);
    }
    let seen = world.model.requests();
    for (name, value) in headers {
        for request in &seen {
            assert_ne!(request.header(name), Some(value), "{name}");
        }
    }
    assert_eq!(seen[0].header("authorization"), Some("Bearer sk-real"));
    assert_eq!(
        (seen[1].header("x-api-key"), seen[1].header("authorization")),
        (Some("sk-real"), None)
    );
    assert_eq!(
        (
            seen[1].header("anthropic-version"),
            seen[1].header("anthropic-beta")
        ),
        (Some("2023-06-01"), None)
    );
}

#[tokio::test]
async fn g1_usage_is_asked_for_and_hidden_again() {
    let world = World::with(Script::answer(100, 10), every_service).await;
    let mut connection = world.open_tls(OPENAI_HOST).await.unwrap();
    let answer = connection
        .post("/v1/chat/completions", &[], &chat(&json!({"stream": true})))
        .await;
    assert!(
        !answer.text().contains("usage") && answer.text().contains("[DONE]"),
        "{}",
        answer.text()
    );
    assert_eq!(
        world.model.requests()[0].body["stream_options"],
        json!({"include_usage": true})
    );
    assert_eq!(world.settled_ledger().await.settled.to_string(), "0.00012");
    let asked = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = connection.post("/v1/chat/completions", &[], &asked).await;
    assert!(answer.text().contains("usage"));
}

#[tokio::test]
async fn e9_another_model_that_answers_freezes_the_account() {
    let world = World::with(Script::answer(100, 10).named("other/model"), every_service).await;
    let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
    assert_eq!(connection.post(CHAT, &[], &chat(&json!({}))).await.status, 200);
    let ledger = world.settled_ledger().await;
    assert!(ledger.frozen && ledger.was_provider_down(), "{ledger:?}");
    assert_eq!(ledger.settled.to_string(), "0.00012", "it is paid all the same");
    let answer = connection.post(CHAT, &[], &chat(&json!({}))).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (403, &json!("ledger_frozen"))
    );
    let lines = world.audit().await;
    assert!(
        lines
            .iter()
            .any(|line| line.reason == "model_mismatch" && line.model.as_deref() == Some("other/model"))
    );
}

#[tokio::test]
async fn e9_a_dated_or_listed_name_is_the_same_model() {
    for told in ["small-2026-01-02", "test/small", "aliases/of-small"] {
        let world = World::with(Script::answer(1, 1).named(told), |assignment| {
            let price = assignment.prices.get_mut(&"test/small".parse().unwrap()).unwrap();
            price.answers_as.insert("aliases/of-small".to_owned());
        })
        .await;
        let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
        assert_eq!(connection.post(CHAT, &[], &chat(&json!({}))).await.status, 200);
        assert!(!world.settled_ledger().await.frozen, "{told}");
    }
}
