//! Judges the body of a request and rebuilds it: what is forwarded is written by us, field by field.

use std::collections::BTreeSet;

use assay_core::{
    control::proxy::Purse,
    digest::Digest,
    ledger::Ask,
    price::{ModelPrice, ModelSlug},
    upstream::{Dialect, Upstream},
};
use bytes::Bytes;

use super::{
    bound::{Prices, Size},
    images::Images,
    json::{DUPLICATE, Json},
    key,
    own::Own,
    refusal::Refusal,
    shape::rebuild_object,
    spec::{Api, Seeded},
};
use crate::route::Policy;

/// A body as the workload sent it: one JSON object without ambiguity.
#[derive(Debug)]
pub struct Sent {
    api: Api,
    body: Json,
    models: Vec<ModelSlug>,
}

/// A request that may be forwarded once money is reserved.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Which API it calls.
    pub api: Api,
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
    limit: Option<&'static str>,
    /// The body without its last brace.
    body: Bytes,
}

impl Sent {
    /// Reads the body and the models that it names.
    pub fn read(api: Api, bytes: &[u8]) -> Result<Self, Refusal> {
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
        Ok(Self { api, body, models })
    }

    /// The models named, the one asked for first.
    pub fn models(&self) -> &[ModelSlug] {
        &self.models
    }

    /// The name of the request, see [`key`].
    pub fn key(&self) -> Digest {
        key::of(self.api, &self.body)
    }

    /// Judges it by the policy of a phase, for the service that will get it.
    pub fn judge(self, policy: &Policy, purse: &Purse, upstream: &Upstream) -> Result<Judged, Refusal> {
        self.check_api(purse, upstream)?;
        let prices = self.prices(policy, purse, upstream)?;
        let stream = self.is_true("stream");
        let options = self.body.member("stream_options");
        let wants_usage =
            options.and_then(|options| options.member("include_usage")) == Some(&Json::Bool(true));
        let spec = self.api.spec();
        let named_output = named_output(&self.body, spec.limits)?.or(spec.default_output);
        let least_output = least_output(&self.body);
        let Json::Object(members) = self.body else {
            return Err(not_an_object());
        };
        check_denied(&members, purse)?;
        let mut images = Images::default();
        let rebuilt = rebuild_object(spec.fields, members, &mut images)?;
        let Json::Object(mut body) = rebuilt else {
            return Err(not_an_object());
        };
        let own = Own {
            run: policy.run,
            purse,
            upstream,
            api: self.api,
            models: &self.models,
            prices: &prices,
            stream,
            images: images.number,
        };
        own.write(&mut body);
        let whole = Json::Object(body);
        let mut bytes = whole.to_bytes();
        let size = Size::of(self.api, &whole, bytes.len() + LIMIT_BYTES, images);
        let ask = if spec.billed {
            prices.ask(size, named_output, least_output)
        } else {
            Prices::ask_nothing()
        };
        bytes.pop();
        Ok(Judged {
            api: self.api,
            models: self.models,
            stream,
            wants_usage,
            prices,
            ask,
            limit: self.api.limit_key(upstream.dialect),
            body: bytes.into(),
        })
    }

    fn check_api(&self, purse: &Purse, upstream: &Upstream) -> Result<(), Refusal> {
        let refused = |message: &str| Err(Refusal::policy("api_not_allowed", message));
        if !self.api.is_spoken_by(upstream.dialect) {
            return refused("The model service does not speak this API.");
        }
        if purse.seed.is_some() && self.api.spec().seeded == Seeded::No {
            return refused("This run has a fixed seed, and this API takes none.");
        }
        if upstream.dialect != Dialect::OpenRouter && self.body.member("models").is_some() {
            return Err(field_denied("models"));
        }
        Ok(())
    }

    fn prices(&self, policy: &Policy, purse: &Purse, upstream: &Upstream) -> Result<Prices, Refusal> {
        for model in &self.models {
            if !purse.models.contains(model) || !upstream.models.contains(model) {
                return Err(model_not_allowed(model, purse));
            }
        }
        let known: Option<Vec<&ModelPrice>> = self.models.iter().map(|model| policy.price(model)).collect();
        let unknown = || Refusal::policy("price_unknown", "The price of a model is not known.");
        Prices::of(&known.ok_or_else(unknown)?).ok_or_else(unknown)
    }

    fn is_true(&self, key: &str) -> bool {
        self.body.member(key) == Some(&Json::Bool(true))
    }
}

impl Judged {
    /// The bytes to forward, with the output that was paid for.
    pub fn to_bytes(&self, output_tokens: u64) -> Bytes {
        let limit = match self.limit {
            Some(key) => format!(",\"{key}\":{output_tokens}}}"),
            None => "}".to_owned(),
        };
        [&self.body[..], limit.as_bytes()].concat().into()
    }

    /// About how many bytes go out.
    pub fn length(&self) -> u64 {
        u64::try_from(self.body.len()).unwrap_or(u64::MAX)
    }

    /// Is `told`, the model named in an answer, one that was asked for?
    pub fn is_answered_by(&self, told: &str) -> bool {
        self.models.iter().any(|model| model.is_answered_by(told)) || self.prices.knows_name(told)
    }
}

/// Optional fields that the policy refuses.
fn check_denied(members: &[(String, Json)], purse: &Purse) -> Result<(), Refusal> {
    let denied = members
        .iter()
        .find(|(key, value)| *value != Json::Null && purse.deny_fields.contains(key));
    denied.map_or(Ok(()), |(key, _)| Err(field_denied(key)))
}

/// Thinking is paid from the output, and the answer comes after it.
fn least_output(body: &Json) -> u64 {
    let budget = |field: &str, key: &str| body.member(field)?.member(key)?.as_count();
    let thinking = budget("reasoning", "max_tokens").or_else(|| budget("thinking", "budget_tokens"));
    thinking.map_or(LEAST_OUTPUT, |tokens| tokens.saturating_add(1).max(LEAST_OUTPUT))
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

/// The smallest of the limits that the API knows.
fn named_output(body: &Json, keys: &[&str]) -> Result<Option<u64>, Refusal> {
    let mut named = None;
    for key in keys {
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
