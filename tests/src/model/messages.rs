//! The same answers in the form of Anthropic's messages, whole or as a stream.

use assay_core::upstream::Dialect;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Request, pieces};

/// The whole answer as one body.
pub fn body(answer: &Answer, request: &Request, dialect: Dialect, id: &str) -> Value {
    let mut body = opening(answer, request, id);
    body["content"] = json!([{ "type": "text", "text": answer.text }]);
    body["stop_reason"] = stop_reason(answer).into();
    body["usage"] = usage(answer, dialect);
    body
}

/// The events of a stream, each ready to be sent.
pub fn events(answer: &Answer, request: &Request, dialect: Dialect, id: &str) -> Vec<Bytes> {
    let empty = json!({ "type": "text", "text": "" });
    let mut events = vec![
        event(&json!({ "type": "message_start", "message": opening(answer, request, id) })),
        event(&json!({ "type": "content_block_start", "index": 0, "content_block": empty })),
    ];
    for words in pieces(&answer.text) {
        let delta = json!({ "type": "text_delta", "text": words });
        events.push(event(
            &json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        ));
    }
    let delta = json!({ "stop_reason": stop_reason(answer), "stop_sequence": null });
    events.extend([
        event(&json!({ "type": "content_block_stop", "index": 0 })),
        event(&json!({ "type": "message_delta", "delta": delta, "usage": usage(answer, dialect) })),
        event(&json!({ "type": "message_stop" })),
    ]);
    events
}

/// A message before its first word.
fn opening(answer: &Answer, request: &Request, id: &str) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": request.model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": input(answer),
    })
}

fn usage(answer: &Answer, dialect: Dialect) -> Value {
    let mut usage = input(answer);
    usage["output_tokens"] = answer.charge.output_tokens.into();
    if dialect == Dialect::OpenRouter {
        answer.charge.tell(&mut usage);
    }
    usage
}

/// What was kept from before is told beside the input here, and not as a part of it.
fn input(answer: &Answer) -> Value {
    let charge = answer.charge;
    json!({
        "input_tokens": charge.input_tokens - charge.cached_tokens, "output_tokens": 1,
        "cache_read_input_tokens": charge.cached_tokens, "cache_creation_input_tokens": 0,
    })
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.finish == "length" {
        "max_tokens"
    } else {
        "end_turn"
    }
}

fn event(data: &Value) -> Bytes {
    let kind = data["type"].as_str().unwrap_or_default();
    Bytes::from(format!("event: {kind}\ndata: {data}\n\n"))
}
