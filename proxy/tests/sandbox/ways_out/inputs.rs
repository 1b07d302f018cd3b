//! Rows F10 to F20: inputs, stores, tiers, other paths.

use serde_json::json;

use super::{
    bodies::{CHAT, MESSAGES, MODEL_HOST, RESPONSES, chat, each, message, part, paths, reads, response},
    refused,
};

#[tokio::test]
async fn f10_urls_that_the_service_would_fetch() {
    refused(vec![
        part(
            CHAT,
            &json!({"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}}),
            "url_not_allowed",
        ),
        part(
            CHAT,
            &json!({"type": "image_url", "image_url": {"url": "data:text/html;base64,AAAA"}}),
            "url_not_allowed",
        ),
        part(
            CHAT,
            &json!({"type": "file", "file": {"file_data": "https://evil.example"}}),
            "field_invalid",
        ),
        part(
            CHAT,
            &json!({"type": "video_url", "video_url": {"url": "https://evil.example"}}),
            "field_invalid",
        ),
        part(
            CHAT,
            &json!({"type": "input_audio", "input_audio": {"data": "AAAA"}}),
            "field_invalid",
        ),
        part(
            RESPONSES,
            &json!({"type": "input_image", "image_url": "https://evil.example/x.png"}),
            "url_not_allowed",
        ),
        part(
            RESPONSES,
            &json!({"type": "input_image", "file_id": "file-1"}),
            "field_missing",
        ),
        part(
            RESPONSES,
            &json!({"type": "input_file", "file_url": "https://evil.example"}),
            "field_invalid",
        ),
        part(
            MESSAGES,
            &json!({"type": "image", "source": {"type": "url", "url": "https://evil.example/x.png"}}),
            "url_not_allowed",
        ),
        part(
            MESSAGES,
            &json!({"type": "document", "source": {"type": "url", "url": "https://evil.example/x.pdf"}}),
            "url_not_allowed",
        ),
        part(
            MESSAGES,
            &json!({"type": "image", "source": {"type": "file", "file_id": "x"}}),
            "field_invalid",
        ),
    ])
    .await;
}

#[tokio::test]
async fn f10_files_whose_tokens_cannot_be_bounded() {
    refused(vec![
        part(CHAT, &json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}), "field_invalid"),
        part(RESPONSES, &json!({"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}), "field_invalid"),
        part(
            MESSAGES,
            &json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}),
            "field_invalid",
        ),
    ])
    .await;
}

#[tokio::test]
async fn f11_what_the_service_would_keep() {
    refused(vec![
        (
            MODEL_HOST,
            RESPONSES,
            response(&json!({"prompt": {"id": "x"}})),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            RESPONSES,
            response(&json!({"background": true})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            RESPONSES,
            response(&json!({"previous_response_id": "x"})),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            RESPONSES,
            response(&json!({"store": true})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            RESPONSES,
            json!({"model": "test/small", "input": [{"type": "item_reference", "id": "x"}]}),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"store": true})),
            "field_not_allowed",
        ),
    ])
    .await;
}

#[tokio::test]
async fn f12_routes() {
    refused(each(&[json!({"route": "fallback"})], "field_not_allowed")).await;
}

#[tokio::test]
async fn f13_dearer_tiers() {
    refused(each(
        &[
            json!({"service_tier": "priority"}),
            json!({"service_tier": "fast"}),
            json!({"service_tier": "flex"}),
        ],
        "field_invalid",
    ))
    .await;
}

#[tokio::test]
async fn f13_speed_of_messages() {
    refused(each(&[json!({"speed": "fast"})], "field_not_allowed")).await;
}

#[tokio::test]
async fn f14_more_than_one_text() {
    refused(vec![
        (MODEL_HOST, CHAT, chat(&json!({"n": 2})), "field_invalid"),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"modalities": ["text", "audio"]})),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"modalities": ["image"]})),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"image_config": {}})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"prediction": {"type": "content", "content": "x"}})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"audio": {"voice": "x"}})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            "/api/v1/completions",
            json!({"model": "test/small", "prompt": ["a", "b"]}),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            "/api/v1/completions",
            json!({"model": "test/small", "prompt": "a", "best_of": 5}),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            "/api/v1/completions",
            json!({"model": "test/small", "prompt": "a", "n": 5}),
            "field_invalid",
        ),
    ])
    .await;
}

#[tokio::test]
async fn f14_negative_and_broken_limits() {
    refused(vec![
        (MODEL_HOST, CHAT, chat(&json!({"max_tokens": 0})), "field_invalid"),
        (
            MODEL_HOST,
            CHAT,
            chat(&json!({"max_completion_tokens": "9"})),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            RESPONSES,
            response(&json!({"max_output_tokens": 1.5})),
            "field_invalid",
        ),
        (
            MODEL_HOST,
            RESPONSES,
            response(&json!({"max_tokens": 5})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            MESSAGES,
            message(&json!({"max_tokens": -1})),
            "field_invalid",
        ),
    ])
    .await;
}

#[tokio::test]
async fn f15_other_apis() {
    refused(paths(&[
        "/api/v1/images",
        "/api/v1/videos",
        "/api/v1/audio/speech",
        "/api/v1/audio/transcriptions",
        "/api/v1/rerank",
        "/api/v1/files",
        "/api/v1/classifications",
        "/api/v1/batches",
        "/api/v1/realtime",
        "/api/v1/moderations",
    ]))
    .await;
}

#[tokio::test]
async fn f16_the_account() {
    refused({
        let mut ways = reads(&[
            "/api/v1/key",
            "/api/v1/keys",
            "/api/v1/credits",
            "/api/v1/activity",
            "/api/v1/analytics",
            "/api/v1/generation",
            "/api/v1/generation/content",
            "/api/v1/workspaces",
            "/api/v1/guardrails",
            "/api/v1/byok",
            "/api/v1/observability/destinations",
            "/api/v1/models/user",
            "/api/v1/providers",
        ]);
        ways.extend(paths(&[
            "/api/v1/keys",
            "/api/v1/auth/keys",
            "/api/v1/credits/coinbase",
        ]));
        ways
    })
    .await;
}

#[tokio::test]
async fn f17_what_the_service_would_echo() {
    refused(each(
        &[json!({"debug": {"echo_upstream_body": true}})],
        "field_not_allowed",
    ))
    .await;
}

#[tokio::test]
async fn f20_the_website() {
    refused(reads(&[
        "/",
        "/chat",
        "/api/frontend/models",
        "/api/internal/v1",
        "/v1/models",
    ]))
    .await;
}
