//! Judges the body of a request and rebuilds it: what is forwarded is written by us, field by field.

use std::collections::BTreeSet;

use assay_core::{
    control::proxy::Purse,
    id::RunId,
    ledger::Ask,
    price::ModelSlug,
    upstream::{Dialect, Upstream},
};
use bytes::Bytes;

use super::{
    bound::Prices,
    fields::REQUEST,
    json::{DUPLICATE, Json},
    refusal::Refusal,
    shape::rebuild_object,
};
use crate::route::Policy;

/// A body as the workload sent it: one JSON object without ambiguity.
#[derive(Debug)]
pub struct Sent {
    body: Json,
    models: Vec<ModelSlug>,
}

/// A request that may be forwarded once money is reserved.
#[derive(Debug)]
pub struct Judged {
    /// The models that may answer; the first is the one asked for.
    pub models: Vec<ModelSlug>,
    /// Whether the answer comes as a stream.
    pub stream: bool,
    /// Whether the workload asked for the usage in the stream.
    pub wants_usage: bool,
    /// The prices that hold.
    pub prices: Prices,
    /// What to reserve.
    pub ask: Ask,
    dialect: Dialect,
    body: Vec<(String, Json)>,
}

impl Sent {
    /// Reads the body and the models that it names.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let body = Json::parse(bytes).map_err(|error| {
            let text = error.to_string();
            if text.starts_with(DUPLICATE) {
                Refusal::policy("duplicate_key", "A key occurs twice in the JSON body.")
            } else {
                Refusal::policy(
                    "body_malformed",
                    format!("The body is no JSON that can be used: {text}"),
                )
            }
        })?;
        let models = models(&body)?;
        Ok(Self { body, models })
    }

    /// The models named, the one asked for first.
    pub fn models(&self) -> &[ModelSlug] {
        &self.models
    }

    /// Judges it by the policy of a phase, for the service that will get it.
    pub fn judge(self, policy: &Policy, purse: &Purse, upstream: &Upstream) -> Result<Judged, Refusal> {
        for model in &self.models {
            if !purse.models.contains(model) || !upstream.models.contains(model) {
                return Err(model_not_allowed(model, purse));
            }
        }
        let prices: Option<Vec<_>> = self.models.iter().map(|model| policy.price(model)).collect();
        let unknown = || Refusal::policy("price_unknown", "The price of a model is not known.");
        let prices = Prices::of(&prices.ok_or_else(unknown)?).ok_or_else(unknown)?;
        if upstream.dialect == Dialect::OpenAi && self.body.member("models").is_some() {
            return Err(field_denied("models"));
        }
        let Json::Object(members) = &self.body else {
            return Err(not_an_object());
        };
        let denied = members
            .iter()
            .find(|(key, value)| *value != Json::Null && purse.deny_fields.contains(key));
        if let Some((key, _)) = denied {
            return Err(field_denied(key));
        }
        check_conflicts(&self.body)?;
        let stream = is_true(self.body.member("stream"));
        let options = self.body.member("stream_options");
        let wants_usage = is_true(options.and_then(|options| options.member("include_usage")));
        let named_output = named_output(&self.body)?;
        let thinking = self
            .body
            .member("reasoning")
            .and_then(|it| it.member("max_tokens"));
        let least_output = thinking
            .and_then(Json::as_count)
            .map_or(LEAST_OUTPUT, |tokens| tokens.saturating_add(1).max(LEAST_OUTPUT));
        let Json::Object(members) = self.body else {
            return Err(not_an_object());
        };
        let Json::Object(mut body) = rebuild_object(REQUEST, members)? else {
            return Err(not_an_object());
        };
        own_fields(
            &mut body,
            policy.run,
            purse,
            &self.models,
            stream,
            upstream.dialect,
            &prices,
        );
        let whole = Json::Object(body);
        let ask = prices.ask(
            &whole,
            whole.to_bytes().len() + LIMIT_BYTES,
            named_output,
            least_output,
        );
        let Json::Object(body) = whole else {
            return Err(not_an_object());
        };
        Ok(Judged {
            models: self.models,
            stream,
            wants_usage,
            prices,
            ask,
            dialect: upstream.dialect,
            body,
        })
    }
}

impl Judged {
    /// The bytes to forward, with the output that was paid for.
    pub fn into_bytes(mut self, output_tokens: u64) -> Bytes {
        let key = match self.dialect {
            Dialect::OpenRouter => "max_tokens",
            Dialect::OpenAi => "max_completion_tokens",
        };
        self.body.push((key.to_owned(), output_tokens.into()));
        Json::Object(self.body).to_bytes().into()
    }
}

/// What the proxy has its own word on.
#[expect(
    clippy::too_many_arguments,
    reason = "all of one request; a type for them would be used once"
)]
fn own_fields(
    body: &mut Vec<(String, Json)>,
    run: RunId,
    purse: &Purse,
    models: &[ModelSlug],
    stream: bool,
    dialect: Dialect,
    prices: &Prices,
) {
    let mut set = |key: &str, value: Json| {
        body.retain(|(name, _)| name != key);
        body.push((key.to_owned(), value));
    };
    set("stream", Json::Bool(stream));
    set("user", Json::Text(run.to_string()));
    if let Some(seed) = purse.seed {
        set("seed", Json::Number(seed.into()));
    }
    match dialect {
        Dialect::OpenAi if stream => set(
            "stream_options",
            Json::Object(vec![("include_usage".to_owned(), Json::Bool(true))]),
        ),
        Dialect::OpenAi => {}
        Dialect::OpenRouter => {
            if models.len() > 1 {
                let slugs = models.iter().map(|model| Json::from(model.as_str()));
                set("models", Json::List(slugs.collect()));
            }
            set("provider", provider(prices));
        }
    }
}

/// The router may take no endpoint that keeps prompts, ignores our limit of output, or is dearer than what was
/// reserved for.
fn provider(prices: &Prices) -> Json {
    let object = |members: Vec<(&str, Json)>| {
        Json::Object(
            members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    };
    let per_million = |price: assay_core::money::PicoUsd| Json::Text(price.times(1_000_000).to_string());
    object(vec![
        ("data_collection", "deny".into()),
        ("allow_fallbacks", Json::Bool(true)),
        ("require_parameters", Json::Bool(true)),
        (
            "max_price",
            object(vec![
                ("prompt", per_million(prices.prompt)),
                ("completion", per_million(prices.completion())),
                ("request", Json::Text(prices.request().to_string())),
            ]),
        ),
    ])
}

fn models(body: &Json) -> Result<Vec<ModelSlug>, Refusal> {
    if !matches!(body, Json::Object(_)) {
        return Err(not_an_object());
    }
    let missing = || {
        Refusal::policy(
            "model_missing",
            "The field `model` must be a string and name a model.",
        )
    };
    let first = body.member("model").ok_or_else(missing)?;
    let others = match body.member("models") {
        None | Some(Json::Null) => &[][..],
        Some(list @ Json::List(_)) => list.items(),
        Some(_) => return Err(Refusal::policy("model_not_allowed", "`models` must be an array.")),
    };
    let (mut named, mut seen) = (Vec::new(), BTreeSet::new());
    for name in std::iter::once(first).chain(others) {
        let text = name.as_text().ok_or_else(missing)?;
        let slug: ModelSlug = text.parse().map_err(|_| {
            let shown: String = text.chars().take(128).collect();
            Refusal::policy(
                "model_not_allowed",
                format!(
                    "{shown:?} is no exact name of a model; aliases, presets and routers are not allowed."
                ),
            )
        })?;
        if seen.insert(slug.clone()) {
            named.push(slug);
        }
    }
    Ok(named)
}

/// Both spellings of the limit; the smaller one holds.
fn named_output(body: &Json) -> Result<Option<u64>, Refusal> {
    let mut named = None;
    for key in ["max_tokens", "max_completion_tokens"] {
        match body.member(key) {
            None | Some(Json::Null) => {}
            Some(value) => {
                let tokens = value.as_count().filter(|tokens| *tokens > 0).ok_or_else(|| {
                    Refusal::policy(
                        "field_invalid",
                        format!("`{key}` must be a whole number above 0."),
                    )
                })?;
                named = Some(named.map_or(tokens, |other: u64| other.min(tokens)));
            }
        }
    }
    Ok(named)
}

/// Known fields with values that would change what is billed or stored.
fn check_conflicts(body: &Json) -> Result<(), Refusal> {
    if is_true(body.member("store")) {
        return Err(field_denied("store"));
    }
    Ok(())
}

fn is_true(value: Option<&Json>) -> bool {
    value == Some(&Json::Bool(true))
}

fn not_an_object() -> Refusal {
    Refusal::policy("body_malformed", "The body must be a JSON object.")
}

fn field_denied(key: &str) -> Refusal {
    Refusal::policy(
        "field_not_allowed",
        format!("The field `{key}` is not allowed here. Leave it out; trying again is of no use."),
    )
}

fn model_not_allowed(model: &ModelSlug, purse: &Purse) -> Refusal {
    let allowed: Vec<&str> = purse.models.iter().map(ModelSlug::as_str).collect();
    Refusal::policy(
        "model_not_allowed",
        format!(
            "The model {model} is not allowed in this run. Allowed: {}.",
            allowed.join(", ")
        ),
    )
}

/// Output below this is not worth a request.
const LEAST_OUTPUT: u64 = 256;
/// The limit of output, which is written into the body last.
const LIMIT_BYTES: usize = 64;

#[cfg(test)]
mod tests;
