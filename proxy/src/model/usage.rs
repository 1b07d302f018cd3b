//! Reads what a request cost, and who answered it, out of the answer: from the places where each API tells it, and from
//! nothing that a model may have written into its text.

use assay_core::{ledger::Bill, money::PicoUsd};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{bound::Prices, failure, spec::Api};

/// What an answer has told so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    api: Api,
    usage: Option<Usage>,
    /// The model that answers, as it is called there.
    pub model: Option<String>,
    /// The name by which the service knows the answer.
    pub id: Option<String>,
    /// The service said that it failed, and not that it will not answer this request.
    pub failed: bool,
    /// Nothing that costs comes after this.
    finished: bool,
}

/// What an answer tells about its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Usage {
    cost: Option<PicoUsd>,
    input: u64,
    cached: u64,
    written: u64,
    output: u64,
}

/// What one event of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Something for the workload.
    Content,
    /// The usage and nothing else.
    BareUsage,
}

impl Tally {
    /// Of an answer that has not begun.
    pub fn new(api: Api) -> Self {
        Self {
            api,
            usage: None,
            model: None,
            id: None,
            failed: false,
            finished: false,
        }
    }

    /// Reads a whole answer.
    pub fn whole(&mut self, document: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Document<'_>>(document) else {
            return;
        };
        let usage = if self.api == Api::CountTokens {
            Some(Usage::default())
        } else {
            answer.usage.as_ref().and_then(|usage| Usage::of(self.api, usage))
        };
        self.name(answer.model, answer.id);
        self.failed |= is_error(answer.error);
        self.usage = usage;
        self.finished = true;
    }

    /// Reads one event of a stream.
    pub fn event(&mut self, data: &[u8]) -> Told {
        if data == b"[DONE]" {
            self.finished = true;
            return Told::Content;
        }
        let tells = |word: &[u8]| memchr::memmem::find(data, word).is_some();
        if self.model.is_some() && !tells(b"\"usage\"") && !tells(b"\"error\"") && !tells(b"failed") {
            return Told::Content;
        }
        let Ok(event) = serde_json::from_slice::<Document<'_>>(data) else {
            return Told::Content;
        };
        match self.api {
            Api::Responses => self.response_event(&event),
            Api::Messages => self.message_event(&event),
            Api::Chat | Api::Completions | Api::Embeddings | Api::CountTokens => return self.chunk(event),
        }
        Told::Content
    }

    /// The bill: what was reported or what the tokens cost by the table, whichever is more. `None` when the answer did
    /// not tell it: `complete` is whether it came to its end.
    pub fn bill(&self, complete: bool, prices: &Prices) -> Option<Bill> {
        // A stream that was cut may have told no more than a part; a message tells its output at the end alone.
        let whole = self.finished || (complete && self.api != Api::Messages);
        let usage = self.usage.filter(|_| whole)?;
        let bill = Bill {
            cost: PicoUsd::ZERO,
            input_tokens: usage.input,
            cached_tokens: usage.cached,
            written_tokens: usage.written,
            output_tokens: usage.output,
        };
        let by_table = if usage.has_tokens() {
            prices.least_cost(&bill)
        } else {
            PicoUsd::ZERO
        };
        Some(Bill {
            cost: usage.cost.unwrap_or_default().max(by_table),
            ..bill
        })
    }

    fn chunk(&mut self, event: Document<'_>) -> Told {
        self.name(event.model, event.id);
        self.failed |= is_error(event.error);
        let Some(usage) = event.usage.as_ref().and_then(|usage| Usage::of(self.api, usage)) else {
            return Told::Content;
        };
        self.usage = Some(usage);
        if event.choices.is_some_and(|choices| choices.is_empty()) {
            self.finished = true;
            return Told::BareUsage;
        }
        Told::Content
    }

    fn response_event(&mut self, event: &Document<'_>) {
        let last = matches!(
            event.kind,
            Some("response.completed" | "response.incomplete" | "response.failed")
        );
        let error = event
            .response
            .as_ref()
            .map_or(event.error, |response| response.error);
        self.failed |= matches!(event.kind, Some("response.failed" | "error")) && !is_refusal(error);
        let Some(response) = &event.response else {
            return;
        };
        self.name(response.model, response.id);
        if last
            && let Some(usage) = response
                .usage
                .as_ref()
                .and_then(|usage| Usage::of(self.api, usage))
        {
            self.usage = Some(usage);
            self.finished = true;
        }
    }

    /// The start tells the input, the end the output so far: the highest of each holds, never the sum.
    fn message_event(&mut self, event: &Document<'_>) {
        self.failed |= event.kind == Some("error") && !is_refusal(event.error);
        let (told, last) = match (event.kind, &event.message) {
            (Some("message_start"), Some(message)) => {
                self.name(message.model, message.id);
                (message.usage.as_ref(), false)
            }
            (Some("message_delta"), _) => (event.usage.as_ref(), true),
            _ => return,
        };
        if let Some(usage) = told.and_then(|usage| Usage::of(self.api, usage)) {
            self.usage = Some(usage.highest(self.usage.unwrap_or_default()));
            self.finished |= last;
        }
    }

    fn name(&mut self, model: Option<&str>, id: Option<&str>) {
        let keep = |slot: &mut Option<String>, told: Option<&str>| {
            if slot.is_none() {
                *slot = told.map(|told| told.chars().take(LONGEST_NAME).collect());
            }
        };
        keep(&mut self.model, model);
        keep(&mut self.id, id);
    }
}

impl Usage {
    /// `None` when it tells nothing, or nothing that can be believed.
    fn of(api: Api, reported: &Reported<'_>) -> Option<Self> {
        let cost = match reported.cost {
            Some(cost) => Some(PicoUsd::from_json_number(cost.get())? + upstream_fee(reported)?),
            None => None,
        };
        let (read, written) = (
            reported.cache_read_input_tokens.unwrap_or(0),
            reported.cache_creation_input_tokens.unwrap_or(0),
        );
        let input = reported.prompt_tokens.or(reported.input_tokens);
        let output = reported.completion_tokens.or(reported.output_tokens);
        if cost.is_none() && input.is_none() && output.is_none() {
            return None;
        }
        let details = reported
            .prompt_tokens_details
            .as_ref()
            .or(reported.input_tokens_details.as_ref());
        let subset = details.and_then(|details| details.cached_tokens).unwrap_or(0);
        // Anthropic counts cached tokens beside the input, the others within it.
        let (input, cached) = if api == Api::Messages {
            (
                input.unwrap_or(0).saturating_add(read).saturating_add(written),
                read,
            )
        } else {
            (input.unwrap_or(0), subset)
        };
        Some(Self {
            cost,
            input,
            cached,
            written: if api == Api::Messages { written } else { 0 },
            output: output.unwrap_or(0),
        })
    }

    fn highest(self, other: Self) -> Self {
        Self {
            cost: self.cost.max(other.cost),
            input: self.input.max(other.input),
            cached: self.cached.max(other.cached),
            written: self.written.max(other.written),
            output: self.output.max(other.output),
        }
    }

    fn has_tokens(self) -> bool {
        self.input > 0 || self.output > 0
    }
}

/// With the account's own key at the provider, `cost` is the router's fee alone.
fn upstream_fee(reported: &Reported<'_>) -> Option<PicoUsd> {
    let fee = reported
        .cost_details
        .as_ref()
        .filter(|_| reported.is_byok == Some(true))
        .and_then(|details| details.upstream_inference_cost)
        .filter(|fee| fee.get() != "null");
    fee.map_or(Some(PicoUsd::ZERO), |fee| PicoUsd::from_json_number(fee.get()))
}

fn is_error(error: Option<&RawValue>) -> bool {
    error.is_some_and(|error| error.get() != "null") && !is_refusal(error)
}

fn is_refusal(error: Option<&RawValue>) -> bool {
    error.is_some_and(|error| failure::is_about_the_request(error.get()))
}

/// The parts of answers and events that say something about cost.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a str>,
    #[serde(borrow, default)]
    id: Option<&'a str>,
    #[serde(borrow, default)]
    model: Option<&'a str>,
    #[serde(borrow, default)]
    usage: Option<Reported<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    choices: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(borrow, default)]
    response: Option<Inner<'a>>,
    #[serde(borrow, default)]
    message: Option<Inner<'a>>,
}

/// The answer inside of an event.
#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow, default)]
    id: Option<&'a str>,
    #[serde(borrow, default)]
    model: Option<&'a str>,
    #[serde(borrow, default)]
    usage: Option<Reported<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
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
    prompt_tokens_details: Option<Details>,
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    input_tokens_details: Option<Details>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CostDetails<'a> {
    #[serde(borrow, default)]
    upstream_inference_cost: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

const LONGEST_NAME: usize = 256;

#[cfg(test)]
mod tests;
