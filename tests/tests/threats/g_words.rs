//! Groups F and G where nothing is refused: what goes out is said in our words, and what comes back is booked as the
//! service bills it. Each first shows what the service hears, or what its usage is worth, without walls.

use assay_core::money::PicoUsd;
use assay_tests::{model::Heard, stage::Stage};
use serde_json::{Value, json};

use crate::{
    f_models::{
        EVERY_SERVICE,
        bodies::{ANTHROPIC_HOST, CHAT, MESSAGES, MODEL_HOST, OPENAI_HOST, chat, message},
    },
    h_money::at_rest,
    scene::{OPEN, attack},
};

/// A call, as the service and as the workload know it.
struct Call {
    heard: Heard,
    answer: String,
    /// By the service.
    billed: PicoUsd,
}

impl Call {
    /// The answer's usage: of a stream its last one.
    fn usage(&self) -> Value {
        let documents = self.answer.lines().map(|line| line.trim_start_matches("data: "));
        let mut usages = documents.filter_map(|line| {
            let document: Value = serde_json::from_str(line).ok()?;
            document.get("usage").filter(|usage| !usage.is_null()).cloned()
        });
        usages.next_back().unwrap_or_default()
    }
}

/// What is asked for, and where.
struct Asked {
    to: &'static str,
    path: &'static str,
    headers: String,
    body: Value,
}

fn ask(to: &'static str, path: &'static str, body: Value) -> Asked {
    Asked {
        to,
        path,
        headers: String::new(),
        body,
    }
}

impl Asked {
    fn of(&self, stage: &Stage) -> Call {
        let case = json!({"to": self.to, "path": self.path, "headers": self.headers, "body": self.body});
        let path = stage.path("call.json");
        std::fs::write(&path, case.to_string()).unwrap();
        let bill = || stage.internet.model.bill().total();
        let before = bill();
        let outcome = attack(stage, "web.speak", &[path.to_str().unwrap()]);
        assert!(outcome.text.starts_with("HTTP/1.1 200"), "{}", outcome.text);
        Call {
            heard: stage.internet.model.heard().unwrap(),
            answer: outcome.text,
            billed: bill().saturating_sub(before),
        }
    }

    /// In the open, and behind the walls, where the books say what the bill says. `None` where there is no stage.
    fn of_both(&self) -> Option<[Call; 2]> {
        let open = self.of(&*OPEN.take()?);
        assert!(open.billed > PicoUsd::ZERO);
        let stage = EVERY_SERVICE.take()?;
        let before = at_rest(&stage);
        let guarded = self.of(&stage);
        let after = at_rest(&stage);
        assert_eq!(after.settled.saturating_sub(before.settled), guarded.billed);
        assert_eq!(after.unresolved, before.unresolved);
        Some([open, guarded])
    }
}

/// A message that asks for terms, long enough for some tokens to be kept from before.
fn on_terms(words: &str) -> Value {
    json!([{"role": "user", "content": format!("{words}\n{}", "word ".repeat(100))}])
}

/// By the prices of the stage.
fn priced(fresh: u64, cached: u64, output: u64) -> PicoUsd {
    PicoUsd::from_pico(fresh * 1_000_000 + cached * 100_000 + output * 2_000_000)
}

fn tokens(usage: &Value, path: &str) -> u64 {
    let told = usage.pointer(path).and_then(Value::as_u64);
    told.unwrap_or_else(|| panic!("no {path} in {usage}"))
}

#[test]
fn f12_f19_routes_sessions_and_caches_are_named_by_us() {
    let fields = json!({
        "provider": {"only": ["evil"], "order": ["evil"], "sort": {"by": "price", "partition": "none"}, "allow_fallbacks": true},
        "user": "shared", "session_id": "shared", "prompt_cache_key": "shared", "safety_identifier": "shared",
    });
    let Some([open, guarded]) = ask(MODEL_HOST, CHAT, chat(&fields)).of_both() else {
        return;
    };
    assert_eq!(
        (&open.heard.body["provider"], &open.heard.body["session_id"]),
        (&fields["provider"], &json!("shared"))
    );
    let body = guarded.heard.body;
    assert!(
        !body.to_string().contains("evil") && !body.to_string().contains("shared"),
        "{body}"
    );
    assert_eq!(
        (&body["provider"]["data_collection"], &body["provider"]["zdr"]),
        (&json!("deny"), &json!(true))
    );
    assert_eq!(body["user"], "01900000-0000-7000-8000-000000000002");
}

#[test]
fn f17_g3_headers_of_a_workload_are_heard_by_nobody() {
    let headers = [
        ("anthropic-beta", "context-1m-2025-08-07,fast-mode-2026-02-01"),
        ("anthropic-version", "2099-01-01"),
        ("x-openrouter-cache", "true"),
        ("x-openrouter-metadata", "shared"),
        ("x-openrouter-title", "shared"),
        ("http-referer", "https://shared.example"),
        ("openai-organization", "shared"),
    ];
    let written = headers.map(|(name, value)| format!("{name}: {value}\r\n"));
    for (to, path, body) in [
        (MODEL_HOST, CHAT, chat(&json!({}))),
        (ANTHROPIC_HOST, "/v1/messages", message(&json!({}))),
    ] {
        let asked = Asked {
            headers: written.concat(),
            ..ask(to, path, body)
        };
        let Some([open, guarded]) = asked.of_both() else {
            return;
        };
        for (name, value) in headers {
            assert_eq!(open.heard.header(name), Some(value));
            assert_ne!(guarded.heard.header(name), Some(value), "{to} hears {name}");
        }
        let key = (to == ANTHROPIC_HOST).then_some("sk-stage-real-credential");
        assert_eq!(guarded.heard.header("x-api-key"), key);
    }
}

#[test]
fn f18_a_call_by_somebodys_own_key_costs_more_than_the_fee() {
    for (path, body) in [
        (CHAT, chat(&json!({"messages": on_terms("ASSAY-OWN-KEY")}))),
        (MESSAGES, message(&json!({"messages": on_terms("ASSAY-OWN-KEY")}))),
    ] {
        let Some([open, _]) = ask(MODEL_HOST, path, body).of_both() else {
            return;
        };
        let told = open.usage()["cost"].to_string();
        let fee = PicoUsd::from_json_number(&told).unwrap();
        assert!(
            fee < open.billed && fee > PicoUsd::ZERO,
            "{fee} of {} would be booked",
            open.billed
        );
    }
}

#[test]
fn g1_a_stream_that_tells_no_usage_is_booked_all_the_same() {
    let body = chat(&json!({"stream": true, "messages": on_terms("")}));
    let Some([open, guarded]) = ask(OPENAI_HOST, "/v1/chat/completions", body).of_both() else {
        return;
    };
    assert!(open.answer.contains("[DONE]") && !open.answer.contains("prompt_tokens"));
    assert!(guarded.answer.contains("[DONE]") && !guarded.answer.contains("prompt_tokens"));
    assert_eq!(
        guarded.heard.body["stream_options"],
        json!({"include_usage": true})
    );
}

#[test]
fn g3_the_usages_of_a_stream_of_messages_are_no_summands() {
    let body = message(&json!({"stream": true, "messages": on_terms("")}));
    let Some([open, _]) = ask(ANTHROPIC_HOST, "/v1/messages", body).of_both() else {
        return;
    };
    assert!(open.answer.contains("message_start"), "{}", open.answer);
    let last = open.usage();
    let (input, output) = (tokens(&last, "/input_tokens"), tokens(&last, "/output_tokens"));
    assert_eq!(open.billed, priced(input, 0, output));
    // One word of the output stands in the first usage, too.
    assert_ne!(open.billed, priced(2 * input, 0, output + 1));
}

#[test]
fn g4_tokens_kept_from_before_are_counted_once_and_at_their_price() {
    let words = on_terms("ASSAY-CACHED: 80");
    let chat = ask(
        OPENAI_HOST,
        "/v1/chat/completions",
        chat(&json!({"messages": words})),
    );
    let Some([open, _]) = chat.of_both() else { return };
    let usage = open.usage();
    let (input, output) = (
        tokens(&usage, "/prompt_tokens"),
        tokens(&usage, "/completion_tokens"),
    );
    let cached = tokens(&usage, "/prompt_tokens_details/cached_tokens");
    assert_eq!(cached, 80);
    assert_eq!(open.billed, priced(input - cached, cached, output));
    assert_ne!(
        open.billed,
        priced(input, cached, output),
        "counted beside the input"
    );

    let messages = ask(
        ANTHROPIC_HOST,
        "/v1/messages",
        message(&json!({"messages": words})),
    );
    let Some([open, _]) = messages.of_both() else {
        return;
    };
    let usage = open.usage();
    let (input, output) = (tokens(&usage, "/input_tokens"), tokens(&usage, "/output_tokens"));
    let cached = tokens(&usage, "/cache_read_input_tokens");
    assert_eq!(cached, 80);
    assert_eq!(open.billed, priced(input, cached, output));
    assert_ne!(
        open.billed,
        priced(input.saturating_sub(cached), cached, output),
        "counted as a part of the input"
    );
}
