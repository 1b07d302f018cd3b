//! The most that a request can cost, before it is sent.
//!
//! A token of a byte-level vocabulary covers at least one byte, so the bytes of the text are a true bound of its tokens.
//! It is some four times too high; what was reserved too much comes back with the bill. An image counts by rule, not by
//! the bytes of its file.

use assay_core::{
    ledger::{Ask, Bill},
    money::PicoUsd,
    price::ModelPrice,
};

use super::{images::Images, json::Json, spec::Api};

/// The prices that hold for a request: those of every model that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices(Vec<ModelPrice>);

/// How large the input of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Tokens of everything but the images, at most.
    pub tokens: u64,
    /// Images.
    pub images: u64,
    /// Texts that each may fill the model's context.
    texts: u64,
}

impl Size {
    /// Of a body that takes `bytes` when it is sent, and has these images in it.
    pub fn of(api: Api, body: &Json, bytes: usize, images: Images) -> Self {
        let turns = body
            .member(api.spec().turns)
            .map_or(0, |turns| turns.items().len());
        let text = count(bytes).saturating_sub(images.bytes);
        let tokens = text
            .saturating_add(count(turns).saturating_mul(TOKENS_PER_TURN))
            .saturating_add(about_tools(body));
        Self {
            tokens,
            images: images.number,
            texts: if api == Api::Embeddings {
                count(turns).max(1)
            } else {
                1
            },
        }
    }
}

impl Prices {
    /// Over all models named; `None` without any.
    pub fn of(models: &[&ModelPrice]) -> Option<Self> {
        (!models.is_empty()).then(|| Self(models.iter().map(|price| (*price).clone()).collect()))
    }

    /// What to reserve, where the workload may have named a limit of output.
    pub fn ask(&self, size: Size, named_output: Option<u64>, least_output: u64) -> Ask {
        let context = self.each(|price| price.context_tokens).max().unwrap_or(0);
        let per_image = self.each(ModelPrice::most_image_tokens).max().unwrap_or(0);
        let input_tokens = size
            .tokens
            .saturating_add(size.images.saturating_mul(per_image))
            .min(context.saturating_mul(size.texts));
        let dearest =
            |price: &dyn Fn(&ModelPrice) -> PicoUsd| self.0.iter().map(price).max().unwrap_or_default();
        let images = dearest(&|price| price.image.unwrap_or_default()).times(size.images);
        let most_output = self.each(|price| price.max_output_tokens).min().unwrap_or(0);
        Ask {
            input_cost: dearest(&|price| price.dearest_input(input_tokens)).times(input_tokens)
                + images
                + self.request(),
            input_tokens,
            output_price: dearest(&|price| price.dearest_output(input_tokens)),
            output_tokens: named_output.unwrap_or(u64::MAX).min(most_output),
            least_output,
        }
    }

    /// What to reserve for a request that is never billed.
    pub fn ask_nothing() -> Ask {
        Ask {
            input_cost: PicoUsd::ZERO,
            input_tokens: 0,
            output_price: PicoUsd::ZERO,
            output_tokens: 0,
            least_output: 0,
        }
    }

    /// Per input token: what the router may choose at most.
    pub fn prompt(&self) -> PicoUsd {
        let long = |price: &ModelPrice| price.long_context.map_or(price.input, |long| long.input);
        self.most(|price| price.input.max(long(price)))
    }

    /// Per output token: what the router may choose at most.
    pub fn completion(&self) -> PicoUsd {
        self.most(|price| price.dearest_output(u64::MAX))
    }

    /// Per request: what the router may choose at most.
    pub fn request(&self) -> PicoUsd {
        self.most(|price| price.request)
    }

    /// Per image: what the router may choose at most.
    pub fn image(&self) -> PicoUsd {
        self.most(|price| price.image.unwrap_or_default())
    }

    /// The least that these tokens cost by the table.
    pub fn least_cost(&self, bill: &Bill) -> PicoUsd {
        self.0
            .iter()
            .map(|price| price.cost(bill))
            .min()
            .unwrap_or_default()
    }

    /// Is this one of the names under which the models answer?
    pub fn knows_name(&self, told: &str) -> bool {
        self.0.iter().any(|price| price.answers_as.contains(told))
    }

    fn most(&self, part: impl Fn(&ModelPrice) -> PicoUsd) -> PicoUsd {
        self.0.iter().map(part).max().unwrap_or_default()
    }

    fn each<'a>(&'a self, part: impl Fn(&ModelPrice) -> u64 + 'a) -> impl Iterator<Item = u64> + 'a {
        self.0.iter().map(part)
    }
}

/// What services tell a model about tools in words of their own: in general, and for each tool that they know by its
/// type, whose schema is theirs too.
fn about_tools(body: &Json) -> u64 {
    let tools = body.member("tools").map_or(&[][..], Json::items);
    let is_known = |tool: &&Json| {
        let kind = tool.member("type").and_then(Json::as_text);
        !matches!(kind, None | Some("custom" | "function"))
    };
    let known = tools.iter().filter(is_known).count();
    let told = count(known).saturating_add(u64::from(!tools.is_empty()));
    told.saturating_mul(TOKENS_ABOUT_TOOLS)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What a chat template adds around a message, generously.
const TOKENS_PER_TURN: u64 = 16;
/// Anthropic's words on tools are some 530 tokens at most, and some 700 for a tool of its own.
const TOKENS_ABOUT_TOOLS: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shape::rebuild_object;

    fn price(input: u64, output: u64) -> ModelPrice {
        ModelPrice {
            input: PicoUsd::from_pico(input),
            output: PicoUsd::from_pico(output),
            cached_input: Some(PicoUsd::from_pico(input / 2)),
            cache_write: None,
            request: PicoUsd::from_pico(7),
            image: None,
            image_tokens: None,
            long_context: None,
            answers_as: [].into(),
            context_tokens: 1_000,
            max_output_tokens: 100,
            free: false,
        }
    }

    fn size(api: Api, body: &str) -> Size {
        let Json::Object(members) = Json::parse(body.as_bytes()).unwrap() else {
            panic!("no object: {body}");
        };
        let mut images = Images::default();
        let rebuilt = rebuild_object(api.spec().fields, members, &mut images).unwrap();
        Size::of(api, &rebuilt, body.len(), images)
    }

    /// A request whose one turn, by the user, has this content.
    fn turn(api: Api, content: &str) -> String {
        let turns = api.spec().turns;
        format!(r#"{{"model":"m","{turns}":[{{"role":"user","content":[{content}]}}]}}"#)
    }

    #[test]
    fn the_dearest_model_bounds_and_the_cheapest_bills() {
        let (small, large) = (price(10, 20), price(100, 10));
        let prices = Prices::of(&[&small, &large]).unwrap();
        let size = Size {
            tokens: 100,
            images: 0,
            texts: 1,
        };
        let ask = prices.ask(size, None, 1);
        assert_eq!((ask.input_tokens, ask.output_tokens), (100, 100));
        assert_eq!(
            (ask.input_cost.pico(), ask.output_price.pico()),
            (100 * 100 + 7, 20)
        );
        let bill = Bill {
            input_tokens: 10,
            cached_tokens: 4,
            output_tokens: 3,
            ..Bill::default()
        };
        assert_eq!(prices.least_cost(&bill).pico(), 6 * 10 + 4 * 5 + 3 * 20 + 7);
    }

    #[test]
    fn input_is_never_more_than_the_context_and_output_never_more_than_the_model_gives() {
        let prices = Prices::of(&[&price(1, 1)]).unwrap();
        let ask = prices.ask(
            Size {
                tokens: 1_000_000,
                images: 0,
                texts: 1,
            },
            Some(5_000),
            1,
        );
        assert_eq!((ask.input_tokens, ask.output_tokens), (1_000, 100));
        let ask = prices.ask(
            Size {
                tokens: 1_000_000,
                images: 0,
                texts: 3,
            },
            Some(5_000),
            1,
        );
        assert_eq!(ask.input_tokens, 3_000);
    }

    #[test]
    fn every_turn_adds_to_the_bytes_of_the_text() {
        let body =
            r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"user","content":"y"}]}"#;
        assert_eq!(
            size(Api::Chat, body).tokens,
            body.len() as u64 + 2 * TOKENS_PER_TURN
        );
    }

    /// An image in the form of an API.
    fn image(api: Api, file: &str) -> String {
        match api {
            Api::Chat => {
                format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{file}"}}}}"#)
            }
            Api::Responses => {
                format!(r#"{{"type":"input_image","image_url":"data:image/png;base64,{file}"}}"#)
            }
            Api::Messages | Api::CountTokens | Api::Completions | Api::Embeddings => format!(
                r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{file}"}}}}"#
            ),
        }
    }

    #[test]
    fn an_image_counts_by_rule_wherever_it_stands() {
        let file = "A".repeat(100_000);
        let result = format!(
            r#"{{"type":"tool_result","tool_use_id":"t","content":[{}]}}"#,
            image(Api::Messages, &file)
        );
        for (api, content) in [
            (Api::Chat, image(Api::Chat, &file)),
            (Api::Responses, image(Api::Responses, &file)),
            (Api::Messages, image(Api::Messages, &file)),
            (Api::Messages, result),
        ] {
            let size = size(api, &turn(api, &content));
            assert_eq!(size.images, 1, "{api:?}");
            assert!(size.tokens < 1_000, "{api:?} {size:?}");
        }
    }

    #[test]
    fn an_image_counts_what_the_dearest_of_the_models_counts_for_one() {
        let (mut known, mut unknown) = (price(1, 1), price(1, 1));
        known.image_tokens = Some(1_600);
        (known.context_tokens, unknown.context_tokens) = (1_000_000, 1_000_000);
        let size = Size {
            tokens: 100,
            images: 2,
            texts: 1,
        };
        let tokens = |prices: &[&ModelPrice]| Prices::of(prices).unwrap().ask(size, None, 1).input_tokens;
        assert_eq!(tokens(&[&known]), 100 + 2 * 1_600);
        assert_eq!(tokens(&[&known, &unknown]), 100 + 2 * 65_536);
    }

    #[test]
    fn what_services_say_about_tools_is_counted() {
        let body = |tools: &str| {
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{tools}]}}"#)
        };
        let above_bytes = |tools: &str| {
            let body = body(tools);
            size(Api::Messages, &body).tokens - body.len() as u64 - TOKENS_PER_TURN
        };
        let (own, known) = (
            r#"{"name":"t","input_schema":{}}"#,
            r#"{"type":"bash_20250124","name":"bash"}"#,
        );
        assert_eq!(above_bytes(""), 0);
        assert_eq!(above_bytes(own), TOKENS_ABOUT_TOOLS);
        assert_eq!(
            above_bytes(&[own, known, known].join(",")),
            3 * TOKENS_ABOUT_TOOLS
        );
    }

    #[test]
    fn what_is_no_file_counts_by_its_bytes_where_an_image_may_stand_too() {
        let prose = "no base64, ".repeat(10_000);
        for api in [Api::Chat, Api::Responses, Api::Messages] {
            let size = size(api, &turn(api, &image(api, &prose)));
            assert_eq!(size.images, 1);
            assert!(size.tokens >= 100_000, "{api:?} {size:?}");
        }
    }

    #[test]
    fn what_only_looks_like_an_image_counts_by_its_bytes() {
        let file = "A".repeat(100_000);
        for api in [Api::Chat, Api::Responses, Api::Messages] {
            let seeming = image(api, &file);
            let turns = api.spec().turns;
            let whole = |field: &str| format!(r#"{{"model":"m","{turns}":[],{field}}}"#);
            let bodies = match api {
                Api::Chat => vec![
                    whole(&format!(
                        r#""tools":[{{"type":"function","function":{{"name":"t","parameters":{seeming}}}}}]"#
                    )),
                    whole(&format!(
                        r#""response_format":{{"type":"json_schema","json_schema":{{"name":"s","schema":{seeming}}}}}"#
                    )),
                    format!(
                        r#"{{"model":"m","messages":[{{"role":"assistant","content":null,"reasoning_details":[{seeming}]}}]}}"#
                    ),
                ],
                Api::Responses => vec![
                    whole(&format!(
                        r#""tools":[{{"type":"function","name":"t","parameters":{seeming}}}]"#
                    )),
                    whole(&format!(
                        r#""text":{{"format":{{"type":"json_schema","name":"s","schema":{seeming}}}}}"#
                    )),
                ],
                Api::Messages | Api::CountTokens | Api::Completions | Api::Embeddings => vec![
                    whole(&format!(r#""tools":[{{"name":"t","input_schema":{seeming}}}]"#)),
                    turn(
                        api,
                        &format!(r#"{{"type":"tool_use","id":"t","name":"t","input":{seeming}}}"#),
                    ),
                ],
            };
            for body in bodies {
                let size = size(api, &body);
                assert_eq!(size.images, 0, "{body:.200}");
                assert!(size.tokens >= 100_000, "{size:?} {body:.200}");
            }
        }
    }

    #[test]
    fn a_long_input_is_reserved_for_at_its_own_prices() {
        let mut tiered = price(10, 20);
        tiered.context_tokens = 1_000_000;
        tiered.long_context = Some(assay_core::price::LongContext {
            above_tokens: 500,
            input: PicoUsd::from_pico(20),
            output: PicoUsd::from_pico(30),
            cached_input: None,
            cache_write: None,
        });
        let prices = Prices::of(&[&tiered]).unwrap();
        let ask = |tokens| {
            prices.ask(
                Size {
                    tokens,
                    images: 0,
                    texts: 1,
                },
                None,
                1,
            )
        };
        assert_eq!(
            (ask(500).input_cost.pico(), ask(500).output_price.pico()),
            (5_007, 20)
        );
        assert_eq!(
            (ask(501).input_cost.pico(), ask(501).output_price.pico()),
            (501 * 20 + 7, 30)
        );
    }
}
