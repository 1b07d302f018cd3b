//! One `chat/completions` request becomes one answer, whole or as a stream.

use assay_core::{price::PriceTable, upstream::Dialect};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    bill::Charge,
    script::{Fault, Script, Terms},
};

/// The fields of a request that the service looks at.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// The model.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Value>,
    /// Whether the answer comes in pieces.
    #[serde(default)]
    pub stream: bool,
    /// What the pieces end with.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Most tokens of the answer.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// The newer name of that.
    #[serde(default)]
    pub max_completion_tokens: Option<u64>,
    /// Who asks.
    #[serde(default)]
    pub user: Option<String>,
}

/// `stream_options`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct StreamOptions {
    /// Whether the last piece tells the usage.
    #[serde(default)]
    pub include_usage: bool,
}

/// What goes out.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The words.
    pub text: String,
    /// What they cost.
    pub charge: Charge,
    /// `stop`, or `length` when the words were cut.
    pub finish: &'static str,
}

impl Request {
    /// The text of the last message of a user, whose content may come in parts.
    pub fn last_user_message(&self) -> String {
        let last = self
            .messages
            .iter()
            .rev()
            .find(|message| message["role"] == "user");
        match last.map(|message| &message["content"]) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let texts = parts.iter().filter_map(|part| part["text"].as_str());
                texts.collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }

    /// Answers from the script. `None` where the model is unknown here.
    pub fn answer(&self, script: &Script, prices: &PriceTable) -> Option<Answer> {
        let message = self.last_user_message();
        let mut text = match Fault::asked_for(&message) {
            Some(Fault::Long(tokens)) => "word ".repeat(usize::try_from(tokens).unwrap_or(0).min(200_000)),
            _ => script.answer(&message),
        };
        let most = self.max_completion_tokens.or(self.max_tokens).unwrap_or(u64::MAX);
        let mut finish = "stop";
        if tokens(&text) > most {
            // A token is four bytes here, so the cut falls on a token; the script speaks ASCII.
            let keep = usize::try_from(most.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX);
            text = text.chars().take(keep).collect();
            finish = "length";
        }
        let said: u64 = self
            .messages
            .iter()
            .map(|message| tokens(&message.to_string()))
            .sum();
        let terms = Terms::asked_for(&message);
        let charge = Charge::of(prices, &self.model, (said, tokens(&text)), terms)?;
        Some(Answer { text, charge, finish })
    }

    /// Does a stream end with the usage? OpenRouter always tells, OpenAI only when asked.
    pub fn tells_usage(&self, dialect: Dialect) -> bool {
        dialect == Dialect::OpenRouter || self.stream_options.is_some_and(|options| options.include_usage)
    }
}

impl Answer {
    /// The whole answer as one body.
    pub fn body(&self, request: &Request, dialect: Dialect, id: &str) -> Value {
        json!({
            "id": id, "object": "chat.completion", "created": 1_700_000_000, "model": request.model,
            "choices": [{
                "index": 0, "finish_reason": self.finish,
                "message": { "role": "assistant", "content": self.text },
            }],
            "usage": self.usage(dialect),
        })
    }

    /// The events of a stream, each ready to be sent.
    pub fn events(&self, request: &Request, dialect: Dialect, id: &str) -> Vec<Bytes> {
        let chunk = |choices: Value, usage: Value| {
            let event = json!({
                "id": id, "object": "chat.completion.chunk", "created": 1_700_000_000, "model": request.model,
                "choices": choices, "usage": usage,
            });
            Bytes::from(format!("data: {event}\n\n"))
        };
        let mut events = Vec::new();
        for words in pieces(&self.text) {
            let delta = json!([{ "index": 0, "delta": { "role": "assistant", "content": words }, "finish_reason": null }]);
            events.push(chunk(delta, Value::Null));
        }
        let end = json!([{ "index": 0, "delta": {}, "finish_reason": self.finish }]);
        events.push(chunk(end, Value::Null));
        if request.tells_usage(dialect) {
            events.push(chunk(json!([]), self.usage(dialect)));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }

    fn usage(&self, dialect: Dialect) -> Value {
        let (input, output) = (self.charge.input_tokens, self.charge.output_tokens);
        let mut usage = json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": { "cached_tokens": self.charge.cached_tokens },
            "completion_tokens_details": { "reasoning_tokens": 0 },
        });
        if dialect == Dialect::OpenRouter {
            self.charge.tell(&mut usage);
        }
        usage
    }
}

/// The text of an answer as a stream cuts it.
pub fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters
        .chunks(PIECE)
        .map(|piece| piece.iter().collect())
        .collect()
}

fn tokens(text: &str) -> u64 {
    u64::try_from(text.len())
        .unwrap_or(u64::MAX)
        .div_ceil(BYTES_PER_TOKEN)
}

const BYTES_PER_TOKEN: u64 = 4;
const PIECE: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> PriceTable {
        toml::from_str(
            "version = \"v\"\n[models.\"assay-demo/scripted\"]\ninput = \"0.000001\"\noutput = \"0.000002\"\n\
             context_tokens = 1000\nmax_output_tokens = 100\n",
        )
        .unwrap()
    }

    fn request(extra: Value) -> Request {
        let mut body = json!({
            "model": "assay-demo/scripted", "messages": [{ "role": "user", "content": "ASSAY-TOKENS: 40" }],
        });
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn an_answer_is_cut_at_the_clamp_and_charged_by_what_went_out() {
        let request = request(json!({ "max_tokens": 10 }));
        let answer = request.answer(&Script::default(), &prices()).unwrap();
        assert_eq!((answer.charge.output_tokens, answer.finish), (10, "length"));
        let expected = answer.charge.input_tokens + 2 * 10;
        assert_eq!(answer.charge.cost.pico(), expected * 1_000_000);
    }

    #[test]
    fn only_the_dialect_that_tells_costs_tells_them() {
        let request = request(json!({ "stream": true }));
        let answer = request.answer(&Script::default(), &prices()).unwrap();
        assert!(answer.body(&request, Dialect::OpenRouter, "x")["usage"]["cost"].is_number());
        assert!(answer.body(&request, Dialect::OpenAi, "x")["usage"]["cost"].is_null());
        let with = answer.events(&request, Dialect::OpenRouter, "x");
        let without = answer.events(&request, Dialect::OpenAi, "x");
        assert_eq!(with.len(), without.len() + 1);
    }

    #[test]
    fn a_model_without_a_price_is_unknown() {
        let request = request(json!({ "model": "other/model" }));
        assert!(request.answer(&Script::default(), &prices()).is_none());
    }
}
