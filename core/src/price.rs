//! What a model costs. A table has a version and is frozen into each assignment; a model without a price cannot be used.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{ledger::Bill, money::PicoUsd};

/// Prices of models, one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// Names the snapshot, e.g. `2026-11-20`.
    pub version: String,
    /// By exact model slug.
    pub models: BTreeMap<ModelSlug, ModelPrice>,
}

/// Prices and limits of one model. Every price is per token in USD, given as a decimal string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Per input token.
    pub input: PicoUsd,
    /// Per output token, reasoning included.
    pub output: PicoUsd,
    /// Per input token read from a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<PicoUsd>,
    /// Per input token written to a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<PicoUsd>,
    /// Per request.
    #[serde(default)]
    pub request: PicoUsd,
    /// Per image of the input, on top of its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PicoUsd>,
    /// Tokens that an image of the input counts at most, however large it is; 65536 when absent, more than any known
    /// provider counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokens: Option<u64>,
    /// Other prices for the whole request when its input is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_context: Option<LongContext>,
    /// Names, besides its own and dated ones, under which the model may answer.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub answers_as: BTreeSet<String>,
    /// Most tokens that fit the model's context.
    pub context_tokens: u64,
    /// Most tokens that the model puts out for one request.
    pub max_output_tokens: u64,
    /// Set where zero prices are meant; a zero price without it is refused as unknown.
    #[serde(default)]
    pub free: bool,
}

/// Prices for the whole request when its input is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LongContext {
    /// Input tokens, those of caches included, above which these prices hold.
    pub above_tokens: u64,
    /// Per input token.
    pub input: PicoUsd,
    /// Per output token.
    pub output: PicoUsd,
    /// Per input token read from a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<PicoUsd>,
    /// Per input token written to a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<PicoUsd>,
}

impl ModelPrice {
    /// The dearest that one of at most `tokens` input tokens can be.
    pub fn dearest_input(&self, tokens: u64) -> PicoUsd {
        let short = self
            .input
            .max(self.cache_write.unwrap_or_default())
            .max(self.cached_input.unwrap_or_default());
        match self.long(tokens) {
            Some(long) => short.max(long.input).max(long.cache_write.unwrap_or_default()),
            None => short,
        }
    }

    /// The dearest that one output token can be after at most `tokens` input tokens.
    pub fn dearest_output(&self, tokens: u64) -> PicoUsd {
        self.long(tokens)
            .map_or(self.output, |long| long.output.max(self.output))
    }

    /// What these tokens cost by this table.
    pub fn cost(&self, bill: &Bill) -> PicoUsd {
        let (input, output, cached_input, cache_write) = match self.long(bill.input_tokens) {
            Some(long) => (long.input, long.output, long.cached_input, long.cache_write),
            None => (self.input, self.output, self.cached_input, self.cache_write),
        };
        let cached = bill.cached_tokens.min(bill.input_tokens);
        let written = bill.written_tokens.min(bill.input_tokens - cached);
        input.times(bill.input_tokens - cached - written)
            + cached_input.unwrap_or(input).times(cached)
            + cache_write.unwrap_or(input).times(written)
            + output.times(bill.output_tokens)
            + self.request
    }

    fn long(&self, tokens: u64) -> Option<&LongContext> {
        self.long_context
            .as_ref()
            .filter(|long| tokens > long.above_tokens)
    }

    /// The most tokens that an image can count.
    pub fn most_image_tokens(&self) -> u64 {
        self.image_tokens.unwrap_or(MOST_IMAGE_TOKENS)
    }

    /// False where both prices are zero without being declared free.
    pub fn is_known(&self) -> bool {
        self.free || !(self.input.is_zero() && self.output.is_zero())
    }
}

/// The exact name of a model, e.g. `openai/gpt-5-mini`: lower case, digits and `._:/-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ModelSlug(String);

/// The text is no model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a model slug (want a-z, 0-9 and . _ : / -, no alias, preset or router): {0:?}")]
pub struct InvalidSlug(String);

impl ModelSlug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is `told`, the name in an answer, this model? Services leave out the author or the variant, and add a date.
    pub fn is_answered_by(&self, told: &str) -> bool {
        let plain = self.0.rsplit_once(':').map_or(self.as_str(), |(plain, _)| plain);
        let short = plain.rsplit_once('/').map_or(plain, |(_, short)| short);
        [self.as_str(), plain, short].iter().any(|name| {
            told.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || is_date(rest))
        })
    }
}

impl std::str::FromStr for ModelSlug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._:/-".contains(&byte);
        let sane = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        let edges =
            text.starts_with(|first: char| first.is_ascii_alphanumeric()) && !text.ends_with(['/', ':']);
        if sane && edges && !text.starts_with("openrouter/") {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSlug(text.to_owned()))
        }
    }
}

impl std::fmt::Display for ModelSlug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ModelSlug {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// `-20250807`, `-2025-08-07` or `-0807`.
fn is_date(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('-') else {
        return false;
    };
    let shape: Vec<usize> = digits.split('-').map(str::len).collect();
    let numbers = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    numbers && matches!(shape[..], [8 | 4] | [4, 2, 2])
}

/// Some count an image by tiles of thousands of tokens each, up to some 50 000 for one.
const MOST_IMAGE_TOKENS: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_model_with_or_without_author_variant_and_date() {
        let slug: ModelSlug = "openai/gpt-5-mini:free".parse().unwrap();
        for told in [
            "openai/gpt-5-mini:free",
            "openai/gpt-5-mini",
            "gpt-5-mini",
            "gpt-5-mini-2025-08-07",
            "gpt-5-mini-0807",
        ] {
            assert!(slug.is_answered_by(told), "{told}");
        }
        for told in [
            "",
            "openai/gpt-5",
            "gpt-5-mini-pro",
            "other/gpt-5-mini",
            "gpt-5-mini-25",
            "gpt-5-mini:nitro",
        ] {
            assert!(!slug.is_answered_by(told), "{told}");
        }
    }

    #[test]
    fn caches_and_long_inputs_have_their_own_prices() {
        let price: ModelPrice = serde_json::from_value(serde_json::json!({
            "input": "0.000003", "output": "0.000015", "cached_input": "0.0000003", "cache_write": "0.00000375",
            "long_context": {"above_tokens": 200_000, "input": "0.000006", "output": "0.0000225"},
            "context_tokens": 1_000_000, "max_output_tokens": 64_000,
        }))
        .unwrap();
        let bill = |input_tokens| Bill {
            input_tokens,
            cached_tokens: 100,
            written_tokens: 10,
            output_tokens: 1,
            ..Bill::default()
        };
        assert_eq!(
            price.cost(&bill(1_000)).pico(),
            890 * 3_000_000 + 100 * 300_000 + 10 * 3_750_000 + 15_000_000
        );
        assert_eq!(
            price.cost(&bill(200_001)).pico(),
            200_001 * 6_000_000 + 22_500_000
        );
        assert_eq!(price.dearest_input(200_000).pico(), 3_750_000);
        assert_eq!(price.dearest_input(200_001).pico(), 6_000_000);
    }

    #[test]
    fn aliases_presets_and_routers_are_no_slugs() {
        for text in [
            "",
            "~anthropic/latest",
            "@preset/x",
            "m@preset/x",
            "openrouter/auto",
            "GPT-5",
            "gpt 5",
            "gpt-5:",
            "/x",
        ] {
            assert!(text.parse::<ModelSlug>().is_err(), "{text}");
        }
        assert_eq!(
            "openai/gpt-5-mini".parse::<ModelSlug>().unwrap().as_str(),
            "openai/gpt-5-mini"
        );
    }
}
