//! What a request may ask for: bodies that the port for models refuses wherever some model may be called.
//!
//! They are tried on [`TRIAL_MODEL`] alone, which nobody serves and whose purse is empty (`assay doctor --sandbox`): a
//! request that is let through ends at the purse, and no packet leaves. Where only real models may be called these rows
//! stay untried, because a way that was open would bill.

use assay_core::control::proxy::TRIAL_MODEL;

use super::{
    Probe, Verdict,
    ports::{self, probe},
};

pub(super) const PROBES: &[Probe] = &[
    probe("E2", "other spellings of a key", || {
        each(
            CHAT,
            &[r#""MODEL":"x""#, r#""Model":"x""#, r#""model ":"x""#],
            FIELD,
        )
    }),
    probe("E3", "names that look like the model's", || {
        models(&[
            "selftest/nоne",
            "selftest/none\\u200b",
            " selftest/none",
            "Selftest/None",
        ])
    }),
    probe("E9", "aliases of the model", || {
        models(&[
            "~selftest/none-latest",
            "selftest/none-latest",
            "selftest/none-2026-01-01",
        ])
    }),
    probe("F1", "fallback models", || {
        everywhere(
            &[
                r#""models":["other/model"]"#,
                r#""models":["selftest/none","openrouter/auto"]"#,
            ],
            MODEL,
        )
    }),
    probe("F2", "fallbacks of messages", || {
        everywhere(&[r#""fallbacks":[{"model":"other/model"}]"#], FIELD)
    }),
    probe("F3", "router models", || {
        models(&["openrouter/auto", "openrouter/free", "openrouter/fusion"])
    }),
    probe("F4", "suffixes of the model", || {
        models(&[
            "selftest/none:free",
            "selftest/none:nitro",
            "selftest/none:online",
        ])
    }),
    probe("F5", "aliases of routers", || models(&["~selftest/none-latest"])),
    probe("F6", "presets", || {
        Verdict::all([
            models(&["@preset/x", "selftest/none@preset/x"]),
            everywhere(&[r#""preset":"x""#], FIELD),
        ])
    }),
    probe("F7", "plugins", || {
        everywhere(&[r#""plugins":[{"id":"web"}]"#], FIELD)
    }),
    probe("F8", "tools that run other models", || {
        tools(&[
            r#""type":"openrouter:subagent""#,
            r#""type":"openrouter:image_generation""#,
            r#""type":"""#,
        ])
    }),
    probe("F9", "tools that reach the internet", || {
        Verdict::all([
            tools(&[
                r#""type":"openrouter:web_fetch""#,
                r#""type":"web_search_20250305","name":"web_search""#,
                r#""type":"mcp","server_url":"https://none.invalid""#,
            ]),
            each(
                MESSAGES,
                &[r#""mcp_servers":[{"type":"url","url":"https://none.invalid"}]"#],
                FIELD,
            ),
        ])
    }),
    probe("F10", "URLs that the service fetches", || {
        Verdict::all([
            part(
                CHAT,
                r#"{"type":"image_url","image_url":{"url":"https://none.invalid/x.png"}}"#,
            ),
            part(
                CHAT,
                r#"{"type":"file","file":{"file_data":"https://none.invalid/x.pdf"}}"#,
            ),
            part(
                MESSAGES,
                r#"{"type":"image","source":{"type":"url","url":"https://none.invalid/x.png"}}"#,
            ),
        ])
    }),
    probe("F11", "what the service would keep", || {
        Verdict::all([
            each(RESPONSES, &[r#""store":true"#, r#""background":true"#], FIELD),
            each(
                RESPONSES,
                &[r#""prompt":{"id":"x"}"#, r#""previous_response_id":"x""#],
                VALUE,
            ),
            each(CHAT, &[r#""store":true"#], FIELD),
        ])
    }),
    probe("F12", "routes", || everywhere(&[r#""route":"fallback""#], FIELD)),
    probe("F13", "dearer tiers", || {
        Verdict::all([
            everywhere(&[r#""service_tier":"priority""#], VALUE),
            everywhere(&[r#""speed":"fast""#], FIELD),
        ])
    }),
    probe("F14", "several answers, broken limits", || {
        each(
            CHAT,
            &[r#""n":2"#, r#""max_tokens":0"#, r#""max_completion_tokens":"9""#],
            VALUE,
        )
    }),
    probe("F17", "echoes of the service", || {
        everywhere(&[r#""debug":{"echo_upstream_body":true}"#], FIELD)
    }),
    probe("F20", "the website of the same host", || {
        ports::paths("GET", &["/chat", "/api/frontend/models", "/api/internal/v1"])
    }),
    probe("G2", "hosted tools of the other API", || {
        tools(&[
            r#""type":"code_interpreter""#,
            r#""type":"file_search""#,
            r#""type":"computer_use_preview""#,
        ])
    }),
    probe("G3", "longer caches", || {
        let hour = r#""system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
        each(MESSAGES, &[hour], VALUE)
    }),
    probe("H10", "a spent purse", || {
        each(CHAT, &[""], &["budget_exhausted"])
    }),
    probe("H16", "tool loops on the server", || {
        tools(&[r#""type":"openrouter:web_search","parameters":{"max_total_results":100}"#])
    }),
];

/// A path, and what its requests carry beside the model.
struct Form {
    path: &'static str,
    turns: &'static str,
}

const CHAT: &Form = &Form {
    path: "/v1/chat/completions",
    turns: "messages",
};
const RESPONSES: &Form = &Form {
    path: "/v1/responses",
    turns: "input",
};
const MESSAGES: &Form = &Form {
    path: "/v1/messages",
    turns: "messages",
};

fn everywhere(fields: &[&str], codes: &[&str]) -> Verdict {
    Verdict::all([CHAT, RESPONSES, MESSAGES].map(|form| each(form, fields, codes)))
}

/// The model's own name and one field more.
fn each(form: &Form, fields: &[&str], codes: &[&str]) -> Verdict {
    Verdict::all(fields.iter().map(|field| {
        let comma = if field.is_empty() { "" } else { "," };
        let fields = format!("{}{comma}{field}", limit(form));
        say(form, TRIAL_MODEL, &turn(r#""hi""#), &fields, codes)
    }))
}

fn models(names: &[&str]) -> Verdict {
    let tried = names.iter().flat_map(|name| {
        [CHAT, RESPONSES, MESSAGES].map(|form| say(form, name, &turn(r#""hi""#), limit(form), MODEL))
    });
    Verdict::all(tried)
}

fn tools(tools: &[&str]) -> Verdict {
    let fields: Vec<String> = tools
        .iter()
        .map(|tool| format!(r#""tools":[{{{tool}}}]"#))
        .collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    everywhere(&fields, &["tool_not_allowed"])
}

/// One part of a message.
fn part(form: &Form, part: &str) -> Verdict {
    let turns = turn(&format!("[{part}]"));
    say(
        form,
        TRIAL_MODEL,
        &turns,
        limit(form),
        &["url_not_allowed", "field_invalid"],
    )
}

fn turn(content: &str) -> String {
    format!(r#"[{{"role":"user","content":{content}}}]"#)
}

/// One API must be told how long an answer may be; the other two need not.
fn limit(form: &Form) -> &'static str {
    if form.path == MESSAGES.path {
        r#""max_tokens":100"#
    } else {
        r#""temperature":1"#
    }
}

fn say(form: &Form, model: &str, turns: &str, fields: &str, codes: &[&str]) -> Verdict {
    let Form { path, turns: key } = form;
    let body = format!(r#"{{"model":"{model}","{key}":{turns},{fields}}}"#);
    ports::denied("POST", path, ports::JSON, &body, codes)
}

const FIELD: &[&str] = &["field_not_allowed"];
const VALUE: &[&str] = &["field_invalid"];
const MODEL: &[&str] = &["model_not_allowed"];
