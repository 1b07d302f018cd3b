//! What is reserved bounds what is billed, however a request is written.

use assay_core::{control::proxy::ProxyAssignment, money::PicoUsd, phase::EgressPhase};
use serde_json::{Value, json};

use crate::{
    chat,
    model::Script,
    world::{Answer, World},
};

/// A request that says much and looks as if it were images.
fn seeming() -> Vec<(&'static str, Value)> {
    let prose = "whatIsToldHereReachesTheModelAsText".repeat(13_000);
    let data = format!("data:image/png;base64,{prose}");
    let url = json!({"type": "image_url", "image_url": {"url": data}});
    let input = json!({"type": "input_image", "image_url": data});
    let file =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": prose}});
    let function = json!({"type": "function", "function": {"name": "t", "parameters": url}});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": url}});
    let thoughts = json!({"role": "assistant", "content": "x", "reasoning_details": [url]});
    let used = json!({"type": "tool_use", "id": "t", "name": "t", "input": file});
    let (chats, responses, messages) = ("/v1/chat/completions", "/v1/responses", "/v1/messages");
    let response = |field: Value| merged(json!({"model": "test/small", "input": "hi"}), field);
    let message = |content: Value, field: Value| {
        let turns = json!([{"role": "user", "content": content}]);
        merged(
            json!({"model": "test/small", "max_tokens": 300, "messages": turns}),
            field,
        )
    };
    vec![
        (chats, chat(&json!({"tools": [function]}))),
        (chats, chat(&json!({"response_format": schema}))),
        (chats, chat(&json!({"messages": [thoughts]}))),
        (
            responses,
            response(json!({"tools": [{"type": "function", "name": "t", "parameters": input}]})),
        ),
        (
            responses,
            response(json!({"text": {"format": {"type": "json_schema", "name": "s", "schema": input}}})),
        ),
        (messages, message(json!([used]), json!({}))),
        (
            messages,
            message(
                json!("hi"),
                json!({"tools": [{"name": "t", "input_schema": file}]}),
            ),
        ),
    ]
}

fn merged(mut body: Value, fields: Value) -> Value {
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    body
}

/// What the answer's usage costs at the prices of `test/small`.
fn billed(answer: &Answer) -> PicoUsd {
    let usage = answer.json()["usage"].clone();
    let tokens = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64()).unwrap();
    PicoUsd::from_pico(1_000_000).times(tokens(["prompt_tokens", "input_tokens"]))
        + PicoUsd::from_pico(2_000_000).times(tokens(["completion_tokens", "output_tokens"]))
}

/// Above an image by its rule, below the prose.
fn purse(assignment: &mut ProxyAssignment) {
    let purse = assignment.purses.get_mut(&EgressPhase::Agent).unwrap();
    purse.budget = "0.1".parse().unwrap();
    for price in assignment.prices.values_mut() {
        price.context_tokens = 1_000_000;
    }
}

#[tokio::test]
async fn text_that_looks_like_an_image_cannot_cost_more_than_there_is() {
    for (path, body) in seeming() {
        let world = World::with(Script::by_length(), purse).await;
        let budget: PicoUsd = "0.1".parse().unwrap();
        let mut straight = world.model.connect().await;
        let asked = straight.post(path, &[], &body).await;
        assert!(billed(&asked) > budget, "it would cost more than there is");

        let mut connection = world.plain_model().await;
        let answer = connection.post(path, &[], &body).await;
        let told = &answer.json()["error"]["code"];
        assert_eq!((answer.status, told), (403, &json!("budget_exhausted")), "{path}");
        assert_eq!(world.ledger().await.cost_max(), PicoUsd::ZERO);
    }
}

#[tokio::test]
async fn a_bill_above_what_was_reserved_freezes_the_account_and_is_told_apart() {
    let world = World::start(Script::answer(1_000_000, 10)).await;
    let mut connection = world.plain_model().await;
    let answer = connection
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    assert_eq!(answer.status, 200);
    assert!(world.settled_ledger().await.frozen);
    let audit = world.audit().await;
    let told = |reason: &str| audit.iter().filter(|line| line.reason == reason).count();
    assert_eq!((told("bill_above_reserved"), told("model_mismatch")), (1, 0));
}

#[tokio::test]
async fn what_a_service_counts_for_images_and_says_about_tools_is_reserved_for() {
    let image =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}});
    let seen = chat(&json!({"messages": [{"role": "user", "content": [image]}]}));
    let turns = json!([{"role": "user", "content": "hi"}]);
    let tools = json!([
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "bash_20250124", "name": "bash"},
    ]);
    let tooled = json!({"model": "test/small", "max_tokens": 1, "messages": turns, "tools": tools});
    // Some providers count up to some 48 000 for a long image, and some 1 500 for two tools of their own.
    for (path, body, counted) in [
        ("/v1/chat/completions", seen, 48_200),
        ("/v1/messages", tooled, 1_500),
    ] {
        let world = World::start(Script::answer(counted, 1)).await;
        let answer = world.plain_model().await.post(path, &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let ledger = world.settled_ledger().await;
        assert!(
            ledger.settled > PicoUsd::ZERO && !ledger.frozen,
            "{path}: {ledger:?}"
        );
    }
}
