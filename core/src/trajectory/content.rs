//! What messages are made of, in every API, as text.

use serde_json::{Map, Value};

use super::ToolCall;

/// The text of a content: a string, or parts. What is no text is named in brackets.
pub(super) fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts: Vec<String> = parts.iter().filter_map(part).collect();
            parts.join("\n")
        }
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

fn part(part: &Value) -> Option<String> {
    if let Value::String(text) = part {
        return Some(text.clone());
    }
    let kind = part["type"].as_str().unwrap_or("part");
    match kind {
        "text" | "input_text" | "output_text" => part["text"].as_str().map(str::to_owned),
        "refusal" => part["refusal"].as_str().map(str::to_owned),
        // Told elsewhere.
        "thinking" | "redacted_thinking" | "tool_use" | "tool_result" => None,
        other => Some(format!("[{other}]")),
    }
}

/// A call of a tool; arguments come as JSON in a string, or as an object.
pub(super) fn tool(id: &Value, name: &Value, arguments: &Value) -> ToolCall {
    let parsed = arguments
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    let read = parsed.as_ref().unwrap_or(arguments);
    let arguments = if let Some(members) = read.as_object() {
        members.clone()
    } else if read.is_null() {
        Map::new()
    } else {
        let text = read.as_str().map_or_else(|| read.to_string(), str::to_owned);
        [("text".to_owned(), Value::from(text))].into_iter().collect()
    };
    ToolCall {
        tool_call_id: id.as_str().unwrap_or_default().to_owned(),
        function_name: name.as_str().unwrap_or_default().to_owned(),
        arguments,
    }
}

/// The tools that a request offers, as it says them.
pub(super) fn tools(request: &Value) -> Option<Vec<Map<String, Value>>> {
    let tools = request["tools"].as_array()?;
    let tools: Vec<_> = tools
        .iter()
        .filter_map(|tool| tool.as_object().cloned())
        .collect();
    (!tools.is_empty()).then_some(tools)
}
