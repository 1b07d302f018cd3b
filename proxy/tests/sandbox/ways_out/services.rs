//! Group G: what other services offer.

use serde_json::json;

use super::{
    bodies::{ANTHROPIC_HOST, OPENAI_HOST, chat, message, paths, response},
    refused,
};

#[tokio::test]
async fn g2_hosted_tools() {
    refused(
        [
            "web_search",
            "web_search_preview",
            "code_interpreter",
            "file_search",
            "mcp",
            "computer_use_preview",
            "image_generation",
        ]
        .into_iter()
        .flat_map(|kind| {
            let fields = json!({"tools": [{"type": kind}]});
            [
                (
                    OPENAI_HOST,
                    "/v1/responses",
                    response(&fields),
                    "tool_not_allowed",
                ),
                (
                    OPENAI_HOST,
                    "/v1/chat/completions",
                    chat(&fields),
                    "tool_not_allowed",
                ),
            ]
        })
        .collect(),
    )
    .await;
}

#[tokio::test]
async fn g2_what_the_service_would_keep() {
    refused(vec![
        (
            OPENAI_HOST,
            "/v1/responses",
            response(&json!({"store": true})),
            "field_not_allowed",
        ),
        (
            OPENAI_HOST,
            "/v1/responses",
            response(&json!({"previous_response_id": "x"})),
            "field_invalid",
        ),
        (
            OPENAI_HOST,
            "/v1/responses",
            response(&json!({"conversation": "x"})),
            "field_invalid",
        ),
        (
            OPENAI_HOST,
            "/v1/responses",
            response(&json!({"prompt": {"id": "x"}})),
            "field_invalid",
        ),
        (
            OPENAI_HOST,
            "/v1/responses",
            response(&json!({"model": "ft:test/small:me"})),
            "model_not_allowed",
        ),
        (
            OPENAI_HOST,
            "/v1/chat/completions",
            chat(&json!({"service_tier": "priority"})),
            "field_invalid",
        ),
        (
            OPENAI_HOST,
            "/v1/chat/completions",
            chat(&json!({"web_search_options": {}})),
            "field_not_allowed",
        ),
    ])
    .await;
}

#[tokio::test]
async fn g3_longer_caches_and_faster_modes() {
    refused(vec![
        (
            ANTHROPIC_HOST,
            "/v1/messages",
            message(&json!({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]})),
            "field_invalid",
        ),
        (ANTHROPIC_HOST, "/v1/messages", message(&json!({"speed": "fast"})), "field_not_allowed"),
        (ANTHROPIC_HOST, "/v1/messages", message(&json!({"service_tier": "priority"})), "field_invalid"),
        (ANTHROPIC_HOST, "/v1/messages/batches", message(&json!({})), "path_not_allowed"),
        (ANTHROPIC_HOST, "/v1/files", message(&json!({})), "path_not_allowed"),
        (ANTHROPIC_HOST, "/v1/chat/completions", chat(&json!({})), "api_not_allowed"),
        (OPENAI_HOST, "/v1/messages", message(&json!({})), "api_not_allowed"),
    ])
    .await;
}

#[tokio::test]
async fn g5_other_forms_of_apis() {
    refused(paths(&[
        "/v1beta/models/test-small:generateContent",
        "/api/v1/models/test-small:generateContent",
    ]))
    .await;
}

#[tokio::test]
async fn g6_clouds() {
    refused(paths(&[
        "/openai/deployments/x/chat/completions",
        "/model/test-small/invoke",
        "/model/test-small/invoke-with-response-stream",
    ]))
    .await;
}
