//! The most that a request can cost, before it is sent.
//!
//! A token of a byte-level vocabulary covers at least one byte, so the bytes of the text are a true bound of its tokens.
//! It is some four times too high; what was reserved too much comes back with the bill.

use assay_core::{
    ledger::{Ask, Bill},
    money::PicoUsd,
    price::ModelPrice,
};

use super::json::Json;

/// The prices that hold for a request: the dearest of the models that it names, and the cheapest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    input: PicoUsd,
    output: PicoUsd,
    request: PicoUsd,
    context_tokens: u64,
    max_output_tokens: u64,
    cheapest: ModelPrice,
    /// Per input token of the prompt: what the router may choose at most.
    pub prompt: PicoUsd,
}

impl Prices {
    /// Over all models named; `None` without any.
    pub fn of(models: &[&ModelPrice]) -> Option<Self> {
        let each = || models.iter().copied();
        let most = |price: fn(&ModelPrice) -> PicoUsd| each().map(price).max();
        let least = |price: fn(&ModelPrice) -> PicoUsd| each().map(price).min();
        let limit = |limit: fn(&ModelPrice) -> u64| each().map(limit).min();
        let cached = |price: &ModelPrice| price.cached_input.unwrap_or(price.input).min(price.input);
        Some(Self {
            input: most(ModelPrice::dearest_input)?,
            output: most(|price| price.output)?,
            request: most(|price| price.request)?,
            context_tokens: each().map(|price| price.context_tokens).max()?,
            max_output_tokens: limit(|price| price.max_output_tokens)?,
            prompt: most(|price| price.input)?,
            cheapest: ModelPrice {
                input: least(|price| price.input)?,
                output: least(|price| price.output)?,
                cached_input: each().map(cached).min(),
                cache_write: None,
                request: least(|price| price.request)?,
                context_tokens: 0,
                max_output_tokens: 0,
                free: true,
            },
        })
    }

    /// What to reserve for `body`, whose limit of output the workload may have named.
    pub fn ask(&self, body: &Json, bytes: usize, named_output: Option<u64>, least_output: u64) -> Ask {
        let messages = body.member("messages").map_or(0, |list| list.items().len());
        let text = u64::try_from(bytes).unwrap_or(u64::MAX);
        let overhead = u64::try_from(messages)
            .unwrap_or(u64::MAX)
            .saturating_mul(TOKENS_PER_MESSAGE);
        let images = images(body).saturating_mul(TOKENS_PER_IMAGE);
        let input_tokens = text
            .saturating_add(overhead)
            .saturating_add(images)
            .min(self.context_tokens);
        Ask {
            input_cost: self.input.times(input_tokens) + self.request,
            input_tokens,
            output_price: self.output,
            output_tokens: named_output.unwrap_or(u64::MAX).min(self.max_output_tokens),
            least_output,
            named: named_output.is_some(),
        }
    }

    /// Per output token: what the router may choose at most.
    pub fn completion(&self) -> PicoUsd {
        self.output
    }

    /// Per request: what the router may choose at most.
    pub fn request(&self) -> PicoUsd {
        self.request
    }

    /// The least that these tokens cost by the table.
    pub fn least_cost(&self, bill: &Bill) -> PicoUsd {
        let cached = bill.cached_tokens.min(bill.input_tokens);
        let price = &self.cheapest;
        price.input.times(bill.input_tokens - cached)
            + price.cached_input.unwrap_or(price.input).times(cached)
            + price.output.times(bill.output_tokens)
            + price.request
    }
}

fn images(body: &Json) -> u64 {
    let messages = body.member("messages").map_or(&[][..], Json::items);
    let parts = messages
        .iter()
        .filter_map(|message| message.member("content"))
        .flat_map(Json::items);
    let images = parts.filter(|part| part.member("type").and_then(Json::as_text) == Some("image_url"));
    u64::try_from(images.count()).unwrap_or(u64::MAX)
}

/// What a chat template adds around a message, generously.
const TOKENS_PER_MESSAGE: u64 = 16;
/// An image of few bytes may still be large; above what any provider counts for one.
const TOKENS_PER_IMAGE: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: u64, output: u64) -> ModelPrice {
        ModelPrice {
            input: PicoUsd::from_pico(input),
            output: PicoUsd::from_pico(output),
            cached_input: Some(PicoUsd::from_pico(input / 2)),
            cache_write: None,
            request: PicoUsd::from_pico(7),
            context_tokens: 1_000,
            max_output_tokens: 100,
            free: false,
        }
    }

    #[test]
    fn the_dearest_model_bounds_and_the_cheapest_bills() {
        let (small, large) = (price(10, 20), price(100, 10));
        let prices = Prices::of(&[&small, &large]).unwrap();
        let body = Json::parse(br#"{"messages":[{"content":"x"}]}"#).unwrap();
        let ask = prices.ask(&body, 84, None, 1);
        assert_eq!(
            (ask.input_tokens, ask.output_tokens, ask.named),
            (100, 100, false)
        );
        assert_eq!(
            (ask.input_cost.pico(), ask.output_price.pico()),
            (100 * 100 + 7, 20)
        );
        let bill = Bill {
            cost: PicoUsd::ZERO,
            input_tokens: 10,
            cached_tokens: 4,
            output_tokens: 3,
        };
        assert_eq!(prices.least_cost(&bill).pico(), 6 * 10 + 4 * 5 + 3 * 10 + 7);
    }

    #[test]
    fn input_is_never_more_than_the_context_and_output_never_more_than_the_model_gives() {
        let prices = Prices::of(&[&price(1, 1)]).unwrap();
        let body = Json::parse(br#"{"messages":[]}"#).unwrap();
        let ask = prices.ask(&body, 1_000_000, Some(5_000), 1);
        assert_eq!(
            (ask.input_tokens, ask.output_tokens, ask.named),
            (1_000, 100, true)
        );
    }

    #[test]
    fn a_tiny_image_counts_as_a_large_one() {
        let mut large = price(1, 1);
        large.context_tokens = 1_000_000;
        let prices = Prices::of(&[&large]).unwrap();
        let body = br#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]}"#;
        let ask = prices.ask(&Json::parse(body).unwrap(), body.len(), None, 1);
        assert!(ask.input_tokens > TOKENS_PER_IMAGE);
    }
}
