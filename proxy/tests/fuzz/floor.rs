//! What a body that was forwarded costs at least where its text is as dense as text can be, counted in another way than the
//! proxy counts it: over the values that the service reads, not over bytes of the body.

use assay_core::{ledger::Bill, money::PicoUsd, price::ModelPrice};
use assay_proxy::model::spec::Api;
use serde_json::Value;

/// Text, tokens and images in a body.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Content {
    tokens: u64,
    images: u64,
}

/// Counts what is in the body of a request.
pub(crate) fn content(body: &Value) -> Content {
    let mut content = Content::default();
    count(body, "", None, &mut content);
    content
}

impl Content {
    /// What a service may bill for it by these prices, with so much output.
    pub(crate) fn cost(self, api: Api, body: &Value, price: &ModelPrice, output_tokens: u64) -> PicoUsd {
        let texts = match (api, body.get("input")) {
            (Api::Embeddings, Some(Value::Array(texts))) => texts.len().max(1),
            _ => 1,
        };
        let images = self.images * price.most_image_tokens();
        let context = price.context_tokens * u64::try_from(texts).unwrap();
        let bill = Bill {
            input_tokens: (self.tokens + images).min(context),
            output_tokens,
            ..Bill::default()
        };
        price.cost(&bill) + price.image.unwrap_or_default().times(self.images)
    }
}

fn count(value: &Value, key: &str, parent: Option<&Value>, content: &mut Content) {
    match value {
        Value::String(text) if is_image(key, text, parent) => content.images += 1,
        Value::String(text) => content.tokens += u64::try_from(text.len()).unwrap(),
        // A token that the caller made.
        Value::Number(_) if key == "input" => content.tokens += 1,
        Value::Array(items) => items
            .iter()
            .for_each(|item| count(item, key, Some(value), content)),
        Value::Object(members) => members
            .iter()
            // What follows is text for the model, whatever it looks like.
            .filter(|(key, _)| !OPAQUE.contains(&key.as_str()) && !is_call(value, key))
            .for_each(|(key, item)| count(item, key, Some(value), content)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An image stands where the API has a place for it; its file is no text.
fn is_image(key: &str, text: &str, parent: Option<&Value>) -> bool {
    let of_parent = |key: &str| parent.and_then(|parent| parent.get(key)).and_then(Value::as_str);
    match key {
        "url" | "image_url" => text.starts_with("data:image/"),
        "data" => of_parent("media_type").is_some_and(|kind| kind.starts_with("image/")),
        _ => false,
    }
}

/// What a model called a tool with.
fn is_call(object: &Value, key: &str) -> bool {
    key == "input" && object["type"] == "tool_use"
}

const OPAQUE: &[&str] = &["parameters", "schema", "input_schema", "reasoning_details"];
