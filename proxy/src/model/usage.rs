//! Reads what a request cost out of its answer: the top-level `usage` of a JSON document, and nothing that a model may
//! have written into its text.

use assay_core::{ledger::Bill, money::PicoUsd};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bound::Prices;

/// What an answer tells about its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    cost: Option<PicoUsd>,
    tokens: Option<(u64, u64, u64)>,
}

impl Usage {
    /// Reads a whole answer, or one event of a stream. `None` when it tells nothing, or nothing that can be believed.
    pub fn read(document: &[u8]) -> Option<Self> {
        let answer: WithUsage<'_> = serde_json::from_slice(document).ok()?;
        let reported = answer.usage?;
        let cost = match reported.cost {
            Some(cost) => Some(pico(cost.get())?),
            None => None,
        };
        let byok = match &reported.cost_details {
            Some(details) if reported.is_byok == Some(true) => match details.upstream_inference_cost {
                Some(cost) if cost.get() != "null" => pico(cost.get())?,
                _ => PicoUsd::ZERO,
            },
            _ => PicoUsd::ZERO,
        };
        let cached = reported
            .prompt_tokens_details
            .and_then(|details| details.cached_tokens)
            .unwrap_or(0);
        let tokens = reported
            .prompt_tokens
            .map(|input| (input, cached, reported.completion_tokens.unwrap_or(0)));
        (cost.is_some() || tokens.is_some()).then_some(Self {
            cost: cost.map(|cost| cost + byok),
            tokens,
        })
    }

    /// The bill: what was reported or what the tokens cost by the table, whichever is more.
    pub fn bill(self, prices: &Prices) -> Bill {
        let (input_tokens, cached_tokens, output_tokens) = self.tokens.unwrap_or_default();
        let bill = Bill {
            cost: PicoUsd::ZERO,
            input_tokens,
            cached_tokens,
            output_tokens,
        };
        let by_table = match self.tokens {
            Some(_) => prices.least_cost(&bill),
            None => PicoUsd::ZERO,
        };
        Bill {
            cost: self.cost.unwrap_or_default().max(by_table),
            ..bill
        }
    }
}

/// A JSON number in USD, rounded up; `None` when it is negative, not finite or too large.
fn pico(number: &str) -> Option<PicoUsd> {
    if let Ok(exact) = number.parse() {
        return Some(exact);
    }
    let value: f64 = number.parse().ok()?;
    let pico = (value * PICO_PER_USD).ceil();
    if !(0.0..=MOST_PICO).contains(&pico) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, not negative and below 2^63, checked above"
    )]
    Some(PicoUsd::from_pico(pico as u64))
}

#[derive(Deserialize)]
struct WithUsage<'a> {
    #[serde(borrow, default)]
    usage: Option<Reported<'a>>,
}

#[derive(Deserialize)]
struct Reported<'a> {
    #[serde(borrow, default)]
    cost: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cost_details: Option<CostDetails<'a>>,
    #[serde(default)]
    is_byok: Option<bool>,
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct CostDetails<'a> {
    #[serde(borrow, default)]
    upstream_inference_cost: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

const PICO_PER_USD: f64 = 1e12;
const MOST_PICO: f64 = 9e18;

#[cfg(test)]
mod tests {
    use assay_core::price::ModelPrice;

    use super::*;

    fn prices() -> Prices {
        let price: ModelPrice = serde_json::from_value(serde_json::json!({
            "input": "0.000001", "output": "0.000002", "cached_input": "0.0000001",
            "context_tokens": 1000, "max_output_tokens": 100,
        }))
        .unwrap();
        Prices::of(&[&price]).unwrap()
    }

    fn cost(document: &str) -> Option<String> {
        Some(Usage::read(document.as_bytes())?.bill(&prices()).cost.to_string())
    }

    #[test]
    fn the_higher_of_report_and_table_is_billed() {
        let tokens =
            r#""prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":50}"#;
        assert_eq!(
            cost(&format!(r#"{{"usage":{{{tokens}}}}}"#)),
            Some("0.000075".to_owned())
        );
        assert_eq!(
            cost(&format!(r#"{{"usage":{{"cost":0.5,{tokens}}}}}"#)),
            Some("0.5".to_owned())
        );
        assert_eq!(
            cost(&format!(r#"{{"usage":{{"cost":1e-9,{tokens}}}}}"#)),
            Some("0.000075".to_owned())
        );
    }

    #[test]
    fn small_floats_are_rounded_up() {
        assert_eq!(
            cost(r#"{"usage":{"cost":1.4e-13}}"#),
            Some("0.000000000001".to_owned())
        );
        assert_eq!(cost(r#"{"usage":{"cost":0.00014}}"#), Some("0.00014".to_owned()));
        assert_eq!(cost(r#"{"usage":{"cost":0}}"#), Some("0".to_owned()));
    }

    #[test]
    fn the_upstream_fee_of_an_own_key_is_added() {
        assert_eq!(
            cost(r#"{"usage":{"cost":0.01,"is_byok":true,"cost_details":{"upstream_inference_cost":0.2}}}"#),
            Some("0.21".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_believed_is_no_usage() {
        for document in [
            "",
            "[DONE]",
            "{}",
            r#"{"usage":null}"#,
            r#"{"usage":{}}"#,
            r#"{"usage":{"cost":-1,"prompt_tokens":1}}"#,
            r#"{"usage":{"cost":"0.1"}}"#,
            r#"{"usage":{"cost":1e30}}"#,
            r#"{"usage":{"prompt_tokens":-1}}"#,
            r#"{"choices":[{"delta":{"content":"{\"usage\":{\"cost\":0}}"}}]}"#,
        ] {
            assert_eq!(Usage::read(document.as_bytes()), None, "{document}");
        }
    }
}
