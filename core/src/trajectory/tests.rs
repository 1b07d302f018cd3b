//! Recordings of every API, and the trajectories that they give. The same are read by Harbor's own model, see
//! `tests/harbor.rs`.

use serde_json::json;

use super::*;
use crate::digest::Digest;

fn call(seq: u64, api: &str, request: &Value, answer: &str) -> Call {
    let stream = answer.starts_with("data:") || answer.starts_with("event:");
    let content_type = if stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    serde_json::from_value(json!({
        "seq": seq, "begun": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:01Z", "phase": "agent", "step": 0,
        "api": api, "host": "models.example.com", "model": "test/small", "key": Digest::of("k"), "status": 200,
        "content_type": content_type, "extent": "whole", "cost": "0.25", "input_tokens": 10, "cached_tokens": 4,
        "output_tokens": 2, "request": request, "answer": answer,
    }))
    .unwrap()
}

fn exported(calls: &[Call]) -> Trajectory {
    let subject = Subject {
        run: "run".to_owned(),
        attempt: "attempt".to_owned(),
        agent: "agent".to_owned(),
        version: "1".to_owned(),
    };
    let trajectory = export(subject, calls).unwrap();
    for (at, step) in trajectory.steps.iter().enumerate() {
        assert_eq!(step.step_id, at as u64 + 1);
    }
    trajectory
}

/// Source and words of each step.
fn told(trajectory: &Trajectory) -> Vec<(Source, &str)> {
    let steps = trajectory.steps.iter();
    steps.map(|step| (step.source, step.message.as_str())).collect()
}

/// A tool is called in the first answer, its result comes back in the second request.
fn check(calls: &[Call], thought: Option<&str>) {
    let trajectory = exported(calls);
    assert_eq!(
        told(&trajectory),
        [
            (Source::System, "Be short."),
            (Source::User, "List."),
            (Source::Agent, "I look."),
            (Source::Agent, "One file."),
        ]
    );
    let asked = &trajectory.steps[2];
    let tool = &asked.tool_calls.as_ref().unwrap()[0];
    assert_eq!(
        (tool.tool_call_id.as_str(), tool.function_name.as_str()),
        ("c1", "ls")
    );
    assert_eq!(tool.arguments["path"], "/");
    assert_eq!(asked.observation.as_ref().unwrap().results[0].content, "a.txt");
    assert_eq!(asked.reasoning_content.as_deref(), thought);
    assert_eq!(asked.metrics.unwrap().cached_tokens, 4);
    let sums = trajectory.final_metrics;
    assert_eq!(
        (sums.total_prompt_tokens, sums.total_cost_usd, sums.total_steps),
        (20, 0.5, 4)
    );
}

#[test]
fn a_chat_becomes_steps_and_each_turn_is_told_once() {
    let first = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "List."}]},
    ], "tools": [{"type": "function", "function": {"name": "ls"}}]});
    let tools = json!([{"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{\"path\":\"/\"}"}}]);
    let mut second = first.clone();
    let messages = second["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": " I look. ", "tool_calls": tools}));
    messages.push(json!({"role": "tool", "tool_call_id": "c1", "content": "a.txt"}));
    let answer =
        json!({"choices": [{"message": {"content": "I look.", "reasoning": "hm", "tool_calls": tools}}]});
    let last = json!({"choices": [{"message": {"content": "One file."}}]}).to_string();
    let calls = [
        call(1, "chat", &first, &answer.to_string()),
        call(2, "chat", &second, &last),
    ];
    check(&calls, Some("hm"));
    assert_eq!(exported(&calls).agent.tool_definitions.unwrap().len(), 1);
}

#[test]
fn a_stream_of_a_chat_says_the_same_as_a_whole_answer() {
    let first = json!({"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "List."}]});
    let pieces = [
        json!({"choices": [{"delta": {"reasoning": "hm"}}]}),
        json!({"choices": [{"delta": {"content": "I "}}]}),
        json!({"choices": [{"delta": {"content": "look."}}]}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "ls", "arguments": ""}}]}}]}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"path\":"}}]}}]}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"/\"}"}}]}}]}),
    ];
    let pieces = pieces.map(|piece| format!("data: {piece}\r\n\r\n"));
    let stream = pieces.concat();
    let second = json!({"messages": [
        {"role": "system", "content": "Be short."}, {"role": "user", "content": "List."},
        {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "c1", "function": {"name": "ls", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.txt"},
    ]});
    let last = "data: {\"choices\":[{\"delta\":{\"content\":\"One file.\"}}]}\n\ndata: [DONE]\n\n";
    check(
        &[
            call(1, "chat", &first, &format!("{stream}data: [DONE]\n\n")),
            call(2, "chat", &second, last),
        ],
        Some("hm"),
    );
}

#[test]
fn messages_become_the_same_steps() {
    let first = json!({"system": [{"type": "text", "text": "Be short."}], "messages": [{"role": "user", "content": "List."}]});
    let blocks = json!([
        {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "ls", "input": {"path": "/"}},
    ]);
    let mut second = first.clone();
    let messages = second["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": blocks}));
    messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "a.txt"}]}));
    let events = [
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "One "}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "file."}}),
    ];
    let events = events.map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    let stream = events.concat();
    let calls = [
        call(1, "messages", &first, &json!({"content": blocks}).to_string()),
        call(2, "messages", &second, &stream),
    ];
    check(&calls, Some("hm"));
}

#[test]
fn responses_become_the_same_steps() {
    let first = json!({"instructions": "Be short.", "input": "List."});
    let output = json!([
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{\"path\":\"/\"}"},
    ]);
    let mut input = vec![json!({"role": "user", "content": [{"type": "input_text", "text": "List."}]})];
    input.extend(output.as_array().unwrap().iter().cloned());
    input.push(json!({"type": "function_call_output", "call_id": "c1", "output": "a.txt"}));
    let second = json!({"instructions": "Be short.", "input": input});
    let whole = json!({"output": output});
    let last = json!({"type": "response.completed", "response": {"output": [
        {"type": "message", "content": [{"type": "output_text", "text": "One file."}]},
    ]}});
    let calls = [
        call(1, "responses", &first, &whole.to_string()),
        call(
            2,
            "responses",
            &second,
            &format!("event: response.completed\ndata: {last}\n\n"),
        ),
    ];
    check(&calls, Some("hm"));
}

#[test]
fn conversations_are_kept_apart_and_what_was_changed_is_told_as_such() {
    let ask = |words: &str| json!({"messages": [{"role": "user", "content": words}]});
    let say = |words: &str| json!({"choices": [{"message": {"content": words}}]}).to_string();
    let changed = json!({"messages": [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "another"}, {"role": "user", "content": "two"},
    ]});
    let trajectory = exported(&[
        call(1, "chat", &ask("one"), &say("1")),
        call(2, "chat", &ask("aside"), &say("2")),
        call(3, "chat", &changed, &say("3")),
    ]);
    let agent = Source::Agent;
    assert_eq!(
        told(&trajectory),
        [
            (Source::User, "one"),
            (agent, "1"),
            (Source::User, "aside"),
            (agent, "2"),
            (agent, "another"),
            (Source::User, "two"),
            (agent, "3"),
        ]
    );
    assert_eq!(trajectory.steps[4].is_copied_context, Some(true));
}

#[test]
fn what_holds_no_conversation_is_only_counted() {
    let vectors = call(1, "embeddings", &json!({"input": "x"}), "{}");
    let text = call(
        2,
        "completions",
        &json!({"prompt": "Say"}),
        "{\"choices\":[{\"text\":\"so\"}]}",
    );
    let trajectory = exported(&[vectors.clone(), text]);
    assert_eq!(told(&trajectory), [(Source::User, "Say"), (Source::Agent, "so")]);
    assert_eq!(trajectory.final_metrics.total_prompt_tokens, 20);
    let subject = Subject {
        run: String::new(),
        attempt: String::new(),
        agent: String::new(),
        version: String::new(),
    };
    assert_eq!(export(subject, &[vectors]), None);
}
