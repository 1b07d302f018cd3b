//! The form of a scripted answer in each API, as the real services give it.

use serde_json::{Value, json};

/// An API.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Chat,
    Responses,
    Messages,
    CountTokens,
    Completions,
    Embeddings,
}

/// What is said.
pub(crate) struct Said<'a> {
    pub(crate) text: &'a str,
    /// Tokens in and out.
    pub(crate) usage: (u64, u64),
    /// Who says it.
    pub(crate) model: &'a str,
}

/// The API at a path.
pub(crate) fn of(path: &str) -> Option<Shape> {
    let shapes = [
        ("/chat/completions", Shape::Chat),
        ("/responses", Shape::Responses),
        ("/messages", Shape::Messages),
        ("/messages/count_tokens", Shape::CountTokens),
        ("/completions", Shape::Completions),
        ("/embeddings", Shape::Embeddings),
    ];
    shapes
        .into_iter()
        .find_map(|(end, shape)| path.ends_with(end).then_some(shape))
}

/// A whole answer.
pub(crate) fn whole(shape: Shape, said: &Said<'_>) -> Value {
    let Said { text, usage, model } = *said;
    let usage = usage_of(shape, usage);
    match shape {
        Shape::Chat => {
            json!({"model": model, "choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage})
        }
        Shape::Completions => json!({"model": model, "choices": [{"text": text}], "usage": usage}),
        Shape::Responses => {
            let content = json!([{"type": "output_text", "text": text}]);
            let output = json!([{"type": "message", "role": "assistant", "content": content}]);
            json!({"id": "resp-1", "model": model, "status": "completed", "output": output, "usage": usage})
        }
        Shape::Messages => {
            let content = json!([{"type": "text", "text": text}]);
            json!({"id": "msg-1", "type": "message", "model": model, "content": content, "usage": usage})
        }
        Shape::CountTokens => json!({"input_tokens": said.usage.0}),
        Shape::Embeddings => {
            json!({"model": model, "data": [{"embedding": [0.5], "index": 0}], "usage": usage})
        }
    }
}

/// The events of a stream.
pub(crate) fn events(shape: Shape, said: &Said<'_>) -> Vec<String> {
    let Said {
        text,
        usage: (input, output),
        model,
    } = *said;
    let usage = usage_of(shape, said.usage);
    let data = |value: Value| format!("data: {value}\n\n");
    let named = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    match shape {
        Shape::Chat | Shape::Completions => vec![
            ": PROCESSING\n\n".to_owned(),
            data(json!({"model": model, "choices": [{"text": text, "delta": {"content": text}}]})),
            data(json!({"model": model, "choices": [], "usage": usage})),
            "data: [DONE]\n\n".to_owned(),
        ],
        Shape::Responses => vec![
            named(
                json!({"type": "response.created", "response": {"id": "resp-1", "model": model, "usage": null}}),
            ),
            named(json!({"type": "response.output_text.delta", "delta": text})),
            named(
                json!({"type": "response.completed", "response": {"id": "resp-1", "model": model, "usage": usage}}),
            ),
        ],
        Shape::Messages => {
            let start = json!({"input_tokens": input, "output_tokens": 1});
            vec![
                named(
                    json!({"type": "message_start", "message": {"id": "msg-1", "model": model, "usage": start}}),
                ),
                named(json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}})),
                named(json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": output}})),
                named(json!({"type": "message_stop"})),
            ]
        }
        Shape::CountTokens | Shape::Embeddings => Vec::new(),
    }
}

fn usage_of(shape: Shape, (input, output): (u64, u64)) -> Value {
    match shape {
        Shape::Responses | Shape::Messages => json!({"input_tokens": input, "output_tokens": output}),
        Shape::Embeddings => json!({"prompt_tokens": input, "total_tokens": input}),
        Shape::Chat | Shape::Completions | Shape::CountTokens => {
            json!({"prompt_tokens": input, "completion_tokens": output, "cost": 0.0})
        }
    }
}
