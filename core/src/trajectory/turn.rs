//! A request as turns of a conversation, the same for every API.

use serde_json::Value;

use super::{
    ToolCall,
    content::{text, tool},
};

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turn {
    /// Instructions.
    System(String),
    /// What was put in.
    User(String),
    /// What the model said, as the request repeats it.
    Model(Said),
    /// What a tool gave.
    Result {
        /// Which call of it.
        call: String,
        /// What it gave.
        content: String,
    },
}

impl Turn {
    fn as_said(&mut self) -> Option<&mut Said> {
        match self {
            Self::Model(said) => Some(said),
            Self::System(_) | Self::User(_) | Self::Result { .. } => None,
        }
    }
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Said {
    /// Its words.
    pub(super) text: String,
    /// Its thoughts.
    pub(super) reasoning: String,
    /// Its wishes.
    pub(super) tools: Vec<ToolCall>,
}

/// The conversation that a request repeats; `None` for an API that has none.
pub(super) fn of_request(api: &str, request: &Value) -> Option<Vec<Turn>> {
    let mut turns = Vec::new();
    match api {
        "chat" => each(&request["messages"], |message| chat(message, &mut turns)),
        "messages" => {
            instructions(&request["system"], &mut turns);
            each(&request["messages"], |message| message_of(message, &mut turns));
        }
        "responses" => {
            instructions(&request["instructions"], &mut turns);
            if let Some(text) = request["input"].as_str() {
                turns.push(Turn::User(text.to_owned()));
            }
            each(&request["input"], |item| response_item(item, &mut turns));
        }
        "completions" => turns.push(Turn::User(text(&request["prompt"]))),
        _ => return None,
    }
    Some(turns)
}

fn each<'a>(list: &'a Value, take: impl FnMut(&'a Value)) {
    list.as_array().into_iter().flatten().for_each(take);
}

fn instructions(content: &Value, turns: &mut Vec<Turn>) {
    if !content.is_null() {
        turns.push(Turn::System(text(content)));
    }
}

fn chat(message: &Value, turns: &mut Vec<Turn>) {
    let content = text(&message["content"]);
    turns.push(match message["role"].as_str() {
        Some("system" | "developer") => Turn::System(content),
        Some("assistant") => Turn::Model(Said {
            text: content,
            reasoning: String::new(),
            tools: chat_tools(&message["tool_calls"]),
        }),
        Some("tool") => Turn::Result {
            call: message["tool_call_id"].as_str().unwrap_or_default().to_owned(),
            content,
        },
        Some(_) | None => Turn::User(content),
    });
}

/// The tools of a chat's message.
pub(super) fn chat_tools(calls: &Value) -> Vec<ToolCall> {
    let calls = calls.as_array().into_iter().flatten();
    calls
        .map(|call| {
            let function = &call["function"];
            tool(&call["id"], &function["name"], &function["arguments"])
        })
        .collect()
}

fn message_of(message: &Value, turns: &mut Vec<Turn>) {
    let content = &message["content"];
    if message["role"] == "assistant" {
        turns.push(Turn::Model(said_of_blocks(content)));
        return;
    }
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    for block in blocks.iter().filter(|block| block["type"] == "tool_result") {
        turns.push(Turn::Result {
            call: block["tool_use_id"].as_str().unwrap_or_default().to_owned(),
            content: text(&block["content"]),
        });
    }
    let words = text(content);
    if !words.is_empty() {
        turns.push(Turn::User(words));
    }
}

/// What the blocks of an Anthropic message say.
pub(super) fn said_of_blocks(content: &Value) -> Said {
    let mut said = Said {
        text: text(content),
        ..Said::default()
    };
    each(content, |block| match block["type"].as_str() {
        Some("thinking") => said
            .reasoning
            .push_str(block["thinking"].as_str().unwrap_or_default()),
        Some("tool_use") => said
            .tools
            .push(tool(&block["id"], &block["name"], &block["input"])),
        Some(_) | None => {}
    });
    said
}

fn response_item(item: &Value, turns: &mut Vec<Turn>) {
    match item["type"].as_str() {
        Some("function_call_output" | "custom_tool_call_output") => turns.push(Turn::Result {
            call: item["call_id"].as_str().unwrap_or_default().to_owned(),
            content: text(&item["output"]),
        }),
        Some("message") | None => {
            let content = text(&item["content"]);
            match item["role"].as_str() {
                Some("assistant") => {
                    if let Some(said) = said_in(turns) {
                        said.text = content;
                    }
                }
                Some("system" | "developer") => turns.push(Turn::System(content)),
                Some(_) | None => turns.push(Turn::User(content)),
            }
        }
        Some(_) => output_item(item, turns),
    }
}

/// What one answer said is several items of the next request: they are one turn.
fn output_item(item: &Value, turns: &mut Vec<Turn>) {
    let mut said = Said::default();
    take_output(item, &mut said);
    if !said.tools.is_empty()
        && let Some(whole) = said_in(turns)
    {
        whole.tools.append(&mut said.tools);
    }
}

/// The model's turn that is under way.
fn said_in(turns: &mut Vec<Turn>) -> Option<&mut Said> {
    if !matches!(turns.last(), Some(Turn::Model(_))) {
        turns.push(Turn::Model(Said::default()));
    }
    turns.last_mut().and_then(Turn::as_said)
}

/// One item of what a response says.
pub(super) fn take_output(item: &Value, said: &mut Said) {
    match item["type"].as_str() {
        Some("message") => said.text.push_str(&text(&item["content"])),
        Some("reasoning") => {
            let thoughts = if item["summary"].as_array().is_some_and(|parts| !parts.is_empty()) {
                &item["summary"]
            } else {
                &item["content"]
            };
            each(thoughts, |part| {
                said.reasoning.push_str(part["text"].as_str().unwrap_or_default());
            });
        }
        Some("function_call") => said
            .tools
            .push(tool(&item["call_id"], &item["name"], &item["arguments"])),
        Some("custom_tool_call") => said
            .tools
            .push(tool(&item["call_id"], &item["name"], &item["input"])),
        Some(_) | None => {}
    }
}
