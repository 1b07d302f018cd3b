use assay_core::phase::EgressPhase;

use super::*;
use crate::fixture;

fn judge_for(
    api: Api,
    body: &str,
    change: impl FnOnce(&mut Purse, &mut Upstream),
) -> Result<Judged, Refusal> {
    let assignment = fixture::assignment();
    let mut purse = assignment.purses[&EgressPhase::Agent].clone();
    let mut upstream = assignment.upstreams[0].clone();
    change(&mut purse, &mut upstream);
    Sent::read(api, body.as_bytes())?.judge(&Policy::new(&assignment), &purse, &upstream)
}

fn judge_with(body: &str, change: impl FnOnce(&mut Purse, &mut Upstream)) -> Result<Judged, Refusal> {
    judge_for(Api::Chat, body, change)
}

fn judge(body: &str) -> Result<Judged, Refusal> {
    judge_with(body, |_, _| {})
}

/// A request with more fields.
fn with(fields: &str) -> String {
    format!(r#"{{"model":"test/small","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#)
}

fn forwarded(judged: &Judged, output_tokens: u64) -> serde_json::Value {
    serde_json::from_slice(&judged.to_bytes(output_tokens)).unwrap()
}

#[test]
fn a_plain_request_is_rebuilt_with_our_own_fields() {
    let judged = judge(&with(
        r#""temperature":0.5,"user":"me","provider":{"only":["x"]},"max_tokens":10"#,
    ))
    .unwrap();
    assert_eq!(judged.ask.output_tokens, 10);
    assert_eq!(
        forwarded(&judged, 9),
        serde_json::json!({
            "model": "test/small",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "stream": false,
            "user": "01900000-0000-7000-8000-000000000002",
            "max_tokens": 9,
            "provider": {
                "data_collection": "deny",
                "allow_fallbacks": true,
                "require_parameters": true,
                "max_price": {"prompt": "1", "completion": "2", "request": "0"},
                "zdr": true,
            },
        })
    );
}

#[test]
fn the_other_dialect_asks_for_usage_and_has_its_own_limit() {
    let judged = judge_with(
        &with(r#""stream":true,"max_tokens":40,"max_completion_tokens":30"#),
        |purse, upstream| {
            upstream.dialect = Dialect::OpenAi;
            purse.seed = Some(7);
        },
    )
    .unwrap();
    assert!(judged.stream && !judged.wants_usage && judged.ask.output_tokens == 30);
    let body = forwarded(&judged, 30);
    assert_eq!(body["stream_options"], serde_json::json!({"include_usage": true}));
    assert_eq!(
        (&body["max_completion_tokens"], &body["seed"]),
        (&30.into(), &7.into())
    );
    assert!(body.get("provider").is_none() && body.get("max_tokens").is_none());
}

#[test]
fn fallback_models_are_reserved_for_by_the_dearest() {
    let judged = judge(&with(r#""models":["test/large","test/small"]"#)).unwrap();
    assert_eq!(judged.ask.output_price.to_string(), "0.00002");
    assert_eq!(judged.ask.output_tokens, 4_000);
    assert_eq!(
        forwarded(&judged, 1)["models"],
        serde_json::json!(["test/small", "test/large"])
    );
}

#[test]
fn a_conversation_with_tools_and_images_passes_unchanged() {
    let messages = serde_json::json!([
        {"role": "system", "content": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        ]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
    ]);
    let tools = serde_json::json!([{"type": "function", "function": {
        "name": "look", "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}},
    }}]);
    let body = serde_json::json!({"model": "test/small", "messages": messages, "tools": tools, "tool_choice": "auto"});
    let sent = forwarded(&judge(&body.to_string()).unwrap(), 1);
    assert_eq!((&sent["messages"], &sent["tools"]), (&messages, &tools));
}

#[test]
fn what_libraries_send_back_without_meaning_is_left_out() {
    let body = r#"{"model":"test/small","n":1,"stop":null,"messages":[{"role":"assistant","content":"x","annotations":[],
        "audio":null,"function_call":null,"refusal":null,"tool_calls":null}]}"#;
    let sent = forwarded(&judge(body).unwrap(), 1);
    assert_eq!(
        sent["messages"],
        serde_json::json!([{"role": "assistant", "content": "x"}])
    );
    assert!(sent.get("stop").is_none() && sent.get("n").is_none());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_way_out_is_refused_by_its_name() {
    let model = |name: &str| format!(r#"{{"model":{name},"messages":[]}}"#);
    let tool = |tool: &str| with(&format!(r#""tools":[{tool}]"#));
    let part =
        |part: &str| format!(r#"{{"model":"test/small","messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let cases = [
        (String::new(), "body_malformed"),
        ("[]".to_owned(), "body_malformed"),
        (
            r#"{"model":"test/small","model":"test/large","messages":[]}"#.to_owned(),
            "duplicate_key",
        ),
        (with(r#""temperature":1,"temperature":0"#), "duplicate_key"),
        (r#"{"messages":[]}"#.to_owned(), "model_missing"),
        (model("null"), "model_missing"),
        (model("7"), "model_missing"),
        (model(r#"["test/small"]"#), "model_missing"),
        (model(r#"{"id":"test/small"}"#), "model_missing"),
        (model(r#""other/model""#), "model_not_allowed"),
        (model(r#""test/unpriced""#), "model_not_allowed"),
        (model(r#""test/small:nitro""#), "model_not_allowed"),
        (model(r#""test/small:online""#), "model_not_allowed"),
        (model(r#""test/small:free""#), "model_not_allowed"),
        (model(r#"" test/small""#), "model_not_allowed"),
        (model(r#""Test/Small""#), "model_not_allowed"),
        (model(r#""test/sm\u0430ll""#), "model_not_allowed"),
        (model(r#""openrouter/auto""#), "model_not_allowed"),
        (model(r#""~test/small-latest""#), "model_not_allowed"),
        (model(r#""@preset/x""#), "model_not_allowed"),
        (model(r#""test/small@preset/x""#), "model_not_allowed"),
        (with(r#""models":["other/model"]"#), "model_not_allowed"),
        (with(r#""models":"other/model""#), "model_not_allowed"),
        (with(r#""MODEL":"other/model""#), "field_not_allowed"),
        (with(r#""Model":"other/model""#), "field_not_allowed"),
        (with(r#""plugins":[{"id":"web"}]"#), "field_not_allowed"),
        (with(r#""preset":"x""#), "field_not_allowed"),
        (with(r#""route":"fallback""#), "field_not_allowed"),
        (
            with(r#""fallbacks":[{"model":"other/model"}]"#),
            "field_not_allowed",
        ),
        (with(r#""transforms":["middle-out"]"#), "field_not_allowed"),
        (with(r#""web_search_options":{}"#), "field_not_allowed"),
        (with(r#""prediction":{}"#), "field_not_allowed"),
        (with(r#""audio":{"voice":"x"}"#), "field_not_allowed"),
        (with(r#""background":true"#), "field_not_allowed"),
        (with(r#""previous_response_id":"x""#), "field_not_allowed"),
        (with(r#""prompt":{"id":"x"}"#), "field_not_allowed"),
        (with(r#""functions":[]"#), "field_not_allowed"),
        (
            with(r#""debug":{"echo_upstream_body":true}"#),
            "field_not_allowed",
        ),
        (with(r#""store":true"#), "field_not_allowed"),
        (with(r#""n":2"#), "field_invalid"),
        (with(r#""max_tokens":0"#), "field_invalid"),
        (with(r#""max_tokens":-1"#), "field_invalid"),
        (with(r#""max_tokens":1.5"#), "field_invalid"),
        (with(r#""max_completion_tokens":"9""#), "field_invalid"),
        (with(r#""temperature":"hot""#), "field_invalid"),
        (with(r#""service_tier":"priority""#), "field_invalid"),
        (with(r#""modalities":["text","audio"]"#), "field_invalid"),
        (with(r#""modalities":["image"]"#), "field_invalid"),
        (with(r#""stream":"yes""#), "field_invalid"),
        (with(r#""stream_options":{"other":1}"#), "field_not_allowed"),
        (with(r#""reasoning":{"plan":"x"}"#), "field_not_allowed"),
        (tool(r#"{"type":"web_search"}"#), "tool_not_allowed"),
        (tool(r#"{"type":"openrouter:web_fetch"}"#), "tool_not_allowed"),
        (
            tool(r#"{"type":"openrouter:subagent","parameters":{"model":"other/model"}}"#),
            "tool_not_allowed",
        ),
        (
            tool(r#"{"type":"mcp","server_url":"https://evil.example"}"#),
            "tool_not_allowed",
        ),
        (tool(r#"{"type":"code_interpreter"}"#), "tool_not_allowed"),
        (tool(r#"{"type":["function"]}"#), "tool_not_allowed"),
        (tool(r#"{"function":{"name":"x"}}"#), "field_missing"),
        (
            tool(r#"{"type":"function","function":{"name":"x"},"engine":"y"}"#),
            "field_not_allowed",
        ),
        (
            part(r#"{"type":"image_url","image_url":{"url":"https://evil.example/x.png"}}"#),
            "url_not_allowed",
        ),
        (
            part(r#"{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}"#),
            "url_not_allowed",
        ),
        (
            part(r#"{"type":"file","file":{"file_data":"https://evil.example"}}"#),
            "field_invalid",
        ),
        (
            part(r#"{"type":"input_audio","input_audio":{}}"#),
            "field_invalid",
        ),
        (
            part(r#"{"type":"text","text":"x","url":"y"}"#),
            "field_not_allowed",
        ),
        (
            part(r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}"#),
            "field_invalid",
        ),
        (r#"{"model":"test/small"}"#.to_owned(), "field_missing"),
        (
            r#"{"model":"test/small","messages":[{"role":"root","content":"x"}]}"#.to_owned(),
            "field_invalid",
        ),
        (
            r#"{"model":"test/small","messages":[{"content":"x"}]}"#.to_owned(),
            "field_missing",
        ),
    ];
    for (body, code) in cases {
        let refusal = judge(&body).expect_err(&body);
        assert_eq!(
            (refusal.code, refusal.status.as_u16()),
            (code, 403),
            "{body}: {refusal:?}"
        );
    }
}

#[test]
fn a_model_without_a_price_is_refused_even_where_the_purse_names_it() {
    let body = r#"{"model":"test/unpriced","messages":[]}"#;
    let allow = |purse: &mut Purse, _: &mut Upstream| {
        purse.models.insert("test/unpriced".parse().unwrap());
    };
    assert_eq!(judge_with(body, allow).unwrap_err().code, "price_unknown");
}

#[test]
fn a_policy_can_deny_known_fields() {
    let deny = |purse: &mut Purse, _: &mut Upstream| {
        purse.deny_fields.insert("temperature".to_owned());
    };
    assert_eq!(
        judge_with(&with(r#""temperature":1"#), deny).unwrap_err().code,
        "field_not_allowed"
    );
    assert!(judge_with(&with(r#""temperature":null"#), deny).is_ok());
}

#[test]
fn fallback_models_are_not_known_to_the_other_dialect() {
    let openai = |_: &mut Purse, upstream: &mut Upstream| upstream.dialect = Dialect::OpenAi;
    assert_eq!(
        judge_with(&with(r#""models":["test/small"]"#), openai)
            .unwrap_err()
            .code,
        "field_not_allowed"
    );
}

#[test]
fn thinking_needs_more_output_than_its_budget() {
    let judged = judge(&with(r#""reasoning":{"max_tokens":2000}"#)).unwrap();
    assert_eq!(judged.ask.least_output, 2_001);
}

#[test]
fn a_router_may_choose_among_the_operators_providers_only() {
    let judged = judge_with(
        &with(r#""provider":{"only":["evil"],"zdr":false}"#),
        |_, upstream| {
            upstream.providers = ["azure".to_owned(), "openai".to_owned()].into();
            upstream.zdr = false;
        },
    )
    .unwrap();
    let provider = &forwarded(&judged, 1)["provider"];
    assert_eq!(provider["only"], serde_json::json!(["azure", "openai"]));
    assert_eq!(
        (provider.get("zdr"), &provider["data_collection"]),
        (None, &"deny".into())
    );
}

#[test]
fn a_response_is_kept_by_nobody_and_limited_under_its_own_name() {
    let body =
        r#"{"model":"test/small","input":"hi","max_output_tokens":40,"metadata":{"a":"b"},"store":false}"#;
    let openai = |_: &mut Purse, upstream: &mut Upstream| upstream.dialect = Dialect::OpenAi;
    let sent = forwarded(&judge_for(Api::Responses, body, openai).unwrap(), 30);
    let run = "01900000-0000-7000-8000-000000000002";
    assert_eq!(
        sent,
        serde_json::json!({
            "model": "test/small", "input": "hi", "stream": false, "store": false, "max_output_tokens": 30,
            "user": run, "prompt_cache_key": run, "service_tier": "default",
        })
    );
}

#[test]
fn a_message_with_tools_passes_unchanged_with_our_user_and_tier() {
    let messages = serde_json::json!([
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": ["x"]}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a cat"}]},
    ]);
    let tools = serde_json::json!([{"name": "look", "input_schema": {"type": "object"}}, {"type": "bash_20250124", "name": "bash"}]);
    let body = serde_json::json!({
        "model": "test/small", "messages": messages, "tools": tools, "max_tokens": 5_000, "system": "be brief",
        "metadata": {"user_id": "me"}, "thinking": {"type": "enabled", "budget_tokens": 2_000},
    });
    let anthropic = |_: &mut Purse, upstream: &mut Upstream| upstream.dialect = Dialect::Anthropic;
    let judged = judge_for(Api::Messages, &body.to_string(), anthropic).unwrap();
    assert_eq!(judged.ask.least_output, 2_001);
    let sent = forwarded(&judged, 4_000);
    assert_eq!((&sent["messages"], &sent["tools"]), (&messages, &tools));
    assert_eq!(
        sent["metadata"]["user_id"],
        "01900000-0000-7000-8000-000000000002"
    );
    assert_eq!(
        (&sent["service_tier"], &sent["max_tokens"]),
        (&"standard_only".into(), &4_000.into())
    );
}

#[test]
fn embeddings_reserve_their_input_alone_however_it_is_given() {
    for input in [r#""hi""#, r#"["hi","ho"]"#, "[1,2,3]", "[[1,2],[3]]"] {
        let body = format!(r#"{{"model":"test/small","input":{input}}}"#);
        let judged = judge_for(Api::Embeddings, &body, |_, _| {}).unwrap();
        assert_eq!(
            (judged.ask.output_tokens, judged.ask.least_output),
            (0, LEAST_OUTPUT)
        );
        assert!(judged.ask.input_tokens > 0);
        assert!(forwarded(&judged, 0).get("max_tokens").is_none());
    }
}

#[test]
fn a_completion_without_a_limit_has_the_services_own() {
    let judged = judge_for(
        Api::Completions,
        r#"{"model":"test/small","prompt":["once"]}"#,
        |_, _| {},
    )
    .unwrap();
    assert_eq!(judged.ask.output_tokens, 16);
}

#[test]
fn counting_tokens_reserves_nothing() {
    let body = r#"{"model":"test/small","messages":[{"role":"user","content":"hi"}]}"#;
    let anthropic = |_: &mut Purse, upstream: &mut Upstream| upstream.dialect = Dialect::Anthropic;
    let judged = judge_for(Api::CountTokens, body, anthropic).unwrap();
    assert_eq!(judged.ask, Prices::ask_nothing());
    assert_eq!(
        forwarded(&judged, 0),
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    );
}

#[test]
fn a_fixed_seed_closes_the_apis_that_take_none() {
    let seeded = |purse: &mut Purse, _: &mut Upstream| purse.seed = Some(7);
    let body = r#"{"model":"test/small","input":"hi"}"#;
    let refused = judge_for(Api::Responses, body, seeded).unwrap_err();
    assert_eq!(refused.code, "api_not_allowed");
    assert!(judge_for(Api::Embeddings, body, seeded).is_ok());
}
