//! Rows F1 to F9: other models, and tools that are not the caller's.

use serde_json::json;

use super::{
    bodies::{
        ANTHROPIC_HOST, MESSAGES, MODEL_HOST, OPENAI_HOST, chat, each, everywhere, message, named, part,
        paths, tools,
    },
    refused,
};

#[tokio::test]
async fn f1_fallback_models() {
    refused(each(
        &[
            json!({"models": ["other/model"]}),
            json!({"models": ["test/small", "openrouter/auto"]}),
            json!({"models": "other/model"}),
        ],
        "model_not_allowed",
    ))
    .await;
}

#[tokio::test]
async fn f1_fallback_models_where_the_service_knows_none() {
    refused(vec![
        (
            OPENAI_HOST,
            "/v1/chat/completions",
            chat(&json!({"models": ["test/small"]})),
            "field_not_allowed",
        ),
        (
            ANTHROPIC_HOST,
            "/v1/messages",
            message(&json!({"models": ["test/small"]})),
            "field_not_allowed",
        ),
    ])
    .await;
}

#[tokio::test]
async fn f2_fallbacks_of_messages() {
    refused(each(
        &[json!({"fallbacks": [{"model": "other/model"}]})],
        "field_not_allowed",
    ))
    .await;
}

#[tokio::test]
async fn f3_routers() {
    refused(named(&[
        "openrouter/auto",
        "openrouter/auto-beta",
        "openrouter/free",
        "openrouter/fusion",
        "openrouter/pareto-code",
        "openrouter/bodybuilder",
    ]))
    .await;
}

#[tokio::test]
async fn f4_variants() {
    refused(named(&[
        "test/small:free",
        "test/small:nitro",
        "test/small:floor",
        "test/small:extended",
        "test/small:thinking",
        "test/small:exacto",
        "test/small:online",
    ]))
    .await;
}

#[tokio::test]
async fn f5_aliases() {
    refused(named(&["~test/small-latest", "test/small-latest"])).await;
}

#[tokio::test]
async fn f6_presets() {
    refused({
        let mut ways = named(&["@preset/x", "test/small@preset/x"]);
        ways.extend(everywhere(&json!({"preset": "x"}), "field_not_allowed"));
        ways.extend(paths(&[
            "/api/v1/presets/x/chat/completions",
            "/api/v1/presets/x/messages",
            "/api/v1/presets/x/responses",
        ]));
        ways
    })
    .await;
}

#[tokio::test]
async fn f7_plugins() {
    refused(each(
        &[
            "auto-router",
            "fusion",
            "web",
            "web-fetch",
            "file-parser",
            "context-compression",
            "response-healing",
            "moderation",
        ]
        .map(|id| json!({"plugins": [{"id": id}]})),
        "field_not_allowed",
    ))
    .await;
}

#[tokio::test]
async fn f8_tools_that_run_other_models() {
    refused(tools(&[
        json!({"type": "openrouter:subagent", "parameters": {"model": "other/model"}}),
        json!({"type": "openrouter:advisor"}),
        json!({"type": "openrouter:fusion"}),
        json!({"type": "openrouter:image_generation", "model": "other/model"}),
        json!({"type": "openrouter:experimental__search_models"}),
        json!({"type": ""}),
        json!({"type": 7}),
    ]))
    .await;
}

#[tokio::test]
async fn f9_tools_that_reach_the_internet() {
    refused(tools(&[
        json!({"type": "openrouter:web_fetch"}),
        json!({"type": "openrouter:web_search"}),
        json!({"type": "web_search"}),
        json!({"type": "web_search_20250305", "name": "web_search"}),
        json!({"type": "web_fetch_20250910", "name": "web_fetch"}),
        json!({"type": "openrouter:bash", "engine": "openrouter"}),
        json!({"type": "shell"}),
        json!({"type": "mcp", "server_url": "https://evil.example", "headers": {}}),
        json!({"type": "code_execution_20250825", "name": "code_execution"}),
    ]))
    .await;
}

#[tokio::test]
async fn f9_servers_and_files_of_messages() {
    refused(vec![
        (
            MODEL_HOST,
            MESSAGES,
            message(&json!({"mcp_servers": [{"type": "url", "url": "https://evil.example"}]})),
            "field_not_allowed",
        ),
        (
            MODEL_HOST,
            MESSAGES,
            message(&json!({"container": "x"})),
            "field_not_allowed",
        ),
        part(
            MESSAGES,
            &json!({"type": "container_upload", "file_id": "x"}),
            "field_invalid",
        ),
    ])
    .await;
}
