//! What the protections stand against: a book and a limit as one writes them first. The attacks that the proxy withstands get
//! past these.

use std::sync::Arc;

use assay_core::{clock::Clock, control::proxy::Ledger, money::PicoUsd};
use serde_json::Value;

use crate::world::Answer;

/// An account in memory. It goes by the status of an answer, and books the usage that passes by in it, at the prices of
/// `test/small`.
#[derive(Debug, Default)]
pub(crate) struct NaiveBook(Ledger);

impl NaiveBook {
    pub(crate) fn take(&mut self, answer: &Answer) {
        let is_good = answer.status == 200;
        self.0.answers += u64::from(is_good);
        self.0.provider_failures += u64::from(!is_good);
        let text = answer.text();
        let events = text
            .lines()
            .map(|line| line.strip_prefix("data: ").unwrap_or(line));
        let told = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
        if let Some(usage) = told.map(|event| event["usage"].clone()).rfind(Value::is_object) {
            let tokens = |name: &str| usage[name].as_u64().unwrap_or(0);
            self.0.settled += PicoUsd::from_pico(1_000_000).times(tokens("prompt_tokens"))
                + PicoUsd::from_pico(2_000_000).times(tokens("completion_tokens"));
        }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0
    }
}

/// One request in a minute, of the wall clock.
pub(crate) struct WallMinute {
    clock: Arc<dyn Clock>,
    last: Option<i64>,
}

impl WallMinute {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: None }
    }

    pub(crate) fn admits(&mut self) -> bool {
        let minute = self.clock.now().as_second() / 60;
        self.last.replace(minute) != Some(minute)
    }
}
