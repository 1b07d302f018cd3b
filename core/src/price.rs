//! What a model costs. A table has a version and is frozen into each assignment; a model without a price cannot be used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::money::PicoUsd;

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
    /// Most tokens that fit the model's context.
    pub context_tokens: u64,
    /// Most tokens that the model puts out for one request.
    pub max_output_tokens: u64,
    /// Set where zero prices are meant; a zero price without it is refused as unknown.
    #[serde(default)]
    pub free: bool,
}

impl ModelPrice {
    /// The dearest that one input token can be.
    pub fn dearest_input(&self) -> PicoUsd {
        self.input
            .max(self.cache_write.unwrap_or(PicoUsd::ZERO))
            .max(self.cached_input.unwrap_or(PicoUsd::ZERO))
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

#[cfg(test)]
mod tests {
    use super::*;

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
