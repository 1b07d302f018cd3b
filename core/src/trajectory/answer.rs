//! What a model said, from a whole answer or from the pieces of a stream.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    content::{text, tool},
    turn::{Said, chat_tools, said_of_blocks, take_output},
};
use crate::recording::Call;

/// What a call was answered. An error is said as it came.
pub(super) fn read(call: &Call) -> Said {
    if call.content_type.trim_start().starts_with("text/event-stream") {
        let events: Vec<Value> = events(&call.answer);
        return match call.api.as_str() {
            "messages" => message_events(&events),
            "responses" => response_events(&events),
            _ => chat_events(&events),
        };
    }
    let Ok(body) = serde_json::from_str::<Value>(&call.answer) else {
        return plain(&call.answer);
    };
    if call.status >= 400 {
        return plain(&call.answer);
    }
    match call.api.as_str() {
        "messages" => said_of_blocks(&body["content"]),
        "responses" => output(&body),
        "completions" => plain(body["choices"][0]["text"].as_str().unwrap_or_default()),
        _ => {
            let message = &body["choices"][0]["message"];
            Said {
                text: text(&message["content"]),
                reasoning: reasoning(message).to_owned(),
                tools: chat_tools(&message["tool_calls"]),
            }
        }
    }
}

fn plain(text: &str) -> Said {
    Said {
        text: text.to_owned(),
        ..Said::default()
    }
}

/// Routers have two names for it.
fn reasoning(message: &Value) -> &str {
    let named = message["reasoning"].as_str();
    named
        .or_else(|| message["reasoning_content"].as_str())
        .unwrap_or_default()
}

/// The JSON of each event.
fn events(stream: &str) -> Vec<Value> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let data = stream.split("\n\n").map(|event| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
    });
    data.filter_map(|data| serde_json::from_str(&data).ok()).collect()
}

/// A tool whose name and arguments come in pieces.
#[derive(Default)]
struct Growing {
    id: String,
    name: String,
    arguments: String,
}

fn grown(tools: BTreeMap<u64, Growing>) -> Vec<super::ToolCall> {
    let tools = tools.into_values();
    tools
        .map(|grown| tool(&grown.id.into(), &grown.name.into(), &grown.arguments.into()))
        .collect()
}

fn chat_events(events: &[Value]) -> Said {
    let (mut said, mut tools) = (Said::default(), BTreeMap::<u64, Growing>::new());
    for event in events {
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        let words = delta["content"].as_str().or_else(|| choice["text"].as_str());
        said.text.push_str(words.unwrap_or_default());
        said.reasoning.push_str(reasoning(delta));
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let growing = tools.entry(piece["index"].as_u64().unwrap_or(0)).or_default();
            let function = &piece["function"];
            for (into, from) in [
                (&mut growing.id, &piece["id"]),
                (&mut growing.name, &function["name"]),
                (&mut growing.arguments, &function["arguments"]),
            ] {
                into.push_str(from.as_str().unwrap_or_default());
            }
        }
    }
    said.tools = grown(tools);
    said
}

fn message_events(events: &[Value]) -> Said {
    let (mut said, mut tools) = (Said::default(), BTreeMap::<u64, Growing>::new());
    for event in events {
        let index = event["index"].as_u64().unwrap_or(0);
        let block = &event["content_block"];
        if block["type"] == "tool_use" {
            let growing = tools.entry(index).or_default();
            block["id"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut growing.id);
            block["name"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut growing.name);
        }
        let delta = &event["delta"];
        said.text.push_str(delta["text"].as_str().unwrap_or_default());
        said.reasoning
            .push_str(delta["thinking"].as_str().unwrap_or_default());
        if let Some(piece) = delta["partial_json"].as_str() {
            tools.entry(index).or_default().arguments.push_str(piece);
        }
    }
    // A tool without arguments has no pieces of them.
    for growing in tools.values_mut().filter(|growing| growing.arguments.is_empty()) {
        growing.arguments.push_str("{}");
    }
    said.tools = grown(tools);
    said
}

/// The last event repeats everything; a stream that was cut has the items that were done.
fn response_events(events: &[Value]) -> Said {
    let whole = events
        .iter()
        .rev()
        .find(|event| event["response"]["output"].is_array());
    let said = whole.map(|event| output(&event["response"])).unwrap_or_default();
    if said != Said::default() {
        return said;
    }
    let mut said = Said::default();
    let done = |event: &&Value| event["type"] == "response.output_item.done";
    for event in events.iter().filter(done) {
        take_output(&event["item"], &mut said);
    }
    if said.text.is_empty() {
        let words = |event: &&Value| event["type"] == "response.output_text.delta";
        for event in events.iter().filter(words) {
            said.text.push_str(event["delta"].as_str().unwrap_or_default());
        }
    }
    said
}

fn output(response: &Value) -> Said {
    let mut said = Said::default();
    for item in response["output"].as_array().into_iter().flatten() {
        take_output(item, &mut said);
    }
    said
}
