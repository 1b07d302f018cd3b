//! What OpenRouter tells about an answer afterwards: `GET …/generation?id=`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Bill;
use crate::money::PicoUsd;

/// The path, after the API's base, that tells about an answer.
pub fn path(name: &str) -> String {
    format!("/generation?id={name}")
}

/// Is this a name that can stand in [`path`]?
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(plain)
}

/// The bill in the router's answer; `None` where there is none, or none that can be believed.
pub fn bill(answer: &[u8]) -> Option<Bill> {
    let told: Answer<'_> = serde_json::from_slice(answer).ok()?;
    let told = told.data;
    let cost = PicoUsd::from_json_number(told.total_cost?.get())?;
    // With the account's own key at the provider, the total is the router's fee alone.
    let upstream = match told.upstream_inference_cost {
        Some(cost) if told.is_byok == Some(true) && cost.get() != "null" => {
            PicoUsd::from_json_number(cost.get())?
        }
        _ => PicoUsd::ZERO,
    };
    Some(Bill {
        cost: cost + upstream,
        input_tokens: told.native_tokens_prompt.or(told.tokens_prompt).unwrap_or(0),
        cached_tokens: told.native_tokens_cached.unwrap_or(0),
        written_tokens: 0,
        output_tokens: told
            .native_tokens_completion
            .or(told.tokens_completion)
            .unwrap_or(0),
    })
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Generation<'a>,
}

#[derive(Deserialize)]
struct Generation<'a> {
    #[serde(borrow, default)]
    total_cost: Option<&'a RawValue>,
    #[serde(borrow, default)]
    upstream_inference_cost: Option<&'a RawValue>,
    #[serde(default)]
    is_byok: Option<bool>,
    #[serde(default)]
    tokens_prompt: Option<u64>,
    #[serde(default)]
    tokens_completion: Option<u64>,
    #[serde(default)]
    native_tokens_prompt: Option<u64>,
    #[serde(default)]
    native_tokens_completion: Option<u64>,
    #[serde(default)]
    native_tokens_cached: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_tokens_and_the_whole_cost_count() {
        let answer = br#"{"data":{"id":"gen-1","total_cost":0.0015,"is_byok":true,"upstream_inference_cost":0.01,
            "tokens_prompt":10,"native_tokens_prompt":12,"native_tokens_completion":3,"native_tokens_cached":null}}"#;
        let bill = bill(answer).unwrap();
        assert_eq!(bill.cost.to_string(), "0.0115");
        assert_eq!(
            (bill.input_tokens, bill.cached_tokens, bill.output_tokens),
            (12, 0, 3)
        );
    }

    #[test]
    fn what_is_no_bill_is_none() {
        for answer in [
            "",
            "{}",
            r#"{"data":{}}"#,
            r#"{"data":{"total_cost":-1}}"#,
            r#"{"data":{"total_cost":null}}"#,
        ] {
            assert!(bill(answer.as_bytes()).is_none(), "{answer}");
        }
        assert!(is_name("gen-1_a.b") && !is_name("gen 1") && !is_name("x&y=z") && !is_name(""));
    }
}
