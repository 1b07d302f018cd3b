//! What the service charges, counted on its side: the proxy's ledger is compared with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use assay_core::{money::PicoUsd, price::PriceTable};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::script::Terms;

/// What one request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Tokens in.
    pub input_tokens: u64,
    /// Those of them that the service had kept from before.
    pub cached_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// All by the price table, and the fee.
    pub cost: PicoUsd,
    /// What the router itself takes of that, where the rest is paid by a key of the caller's own.
    pub fee: Option<PicoUsd>,
}

/// Everything charged so far, by user: the proxy names the run there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bill {
    /// By the request's `user`; the empty name where there was none.
    pub users: BTreeMap<String, Account>,
}

/// One user's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Requests answered.
    pub requests: u64,
    /// Requests answered by an asked-for fault without a charge.
    pub faults: u64,
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// The sum.
    pub cost: PicoUsd,
}

impl Bill {
    /// The sum over all users.
    pub fn total(&self) -> PicoUsd {
        self.users.values().map(|account| account.cost).sum()
    }
}

/// The bill that a running service writes.
#[derive(Debug, Default)]
pub struct Desk {
    bill: Mutex<Bill>,
    /// Every charged answer, by its name.
    generations: Mutex<BTreeMap<String, Charge>>,
    /// Those of them whose bills nobody is told.
    untold: Mutex<BTreeSet<String>>,
}

impl Desk {
    /// Books a request and names its answer.
    pub fn charge(&self, user: &str, charge: Charge) -> String {
        let name = self.name(charge);
        self.with(user, |account| {
            account.requests += 1;
            account.input_tokens += charge.input_tokens;
            account.output_tokens += charge.output_tokens;
            account.cost += charge.cost;
        });
        name
    }

    /// What an answer was charged.
    pub fn generation(&self, name: &str) -> Option<Charge> {
        let generations = self.generations.lock().ok()?;
        generations.get(name).copied()
    }

    /// Tells nobody what an answer was charged.
    pub fn keep_quiet(&self, name: &str) {
        if let Ok(mut untold) = self.untold.lock() {
            untold.insert(name.to_owned());
        }
    }

    /// How many answers that are.
    pub fn quiet(&self) -> usize {
        self.untold.lock().map_or(0, |untold| untold.len())
    }

    /// Is anybody told what it was charged?
    pub fn tells(&self, name: &str) -> bool {
        self.untold.lock().is_ok_and(|untold| !untold.contains(name))
    }

    /// Every charged answer, by its name.
    pub fn generations(&self) -> BTreeMap<String, Charge> {
        self.generations.lock().map(|all| all.clone()).unwrap_or_default()
    }

    fn name(&self, charge: Charge) -> String {
        let Ok(mut generations) = self.generations.lock() else {
            return String::new();
        };
        let name = format!("gen-{}", generations.len() + 1);
        generations.insert(name.clone(), charge);
        name
    }

    /// Counts a fault.
    pub fn fault(&self, user: &str) {
        self.with(user, |account| account.faults += 1);
    }

    /// A copy of the bill.
    pub fn bill(&self) -> Bill {
        self.bill.lock().map(|bill| bill.clone()).unwrap_or_default()
    }

    fn with(&self, user: &str, change: impl FnOnce(&mut Account)) {
        if let Ok(mut bill) = self.bill.lock() {
            change(bill.users.entry(user.to_owned()).or_default());
        }
    }
}

impl Charge {
    /// Of a request for a model, by its table and the words of its message; `None` where the model has no price.
    pub fn of(
        prices: &PriceTable,
        model: &str,
        (input_tokens, output_tokens): (u64, u64),
        terms: Terms,
    ) -> Option<Self> {
        let price = prices.models.get(&model.parse().ok()?)?;
        let cached_tokens = terms.cached_tokens.min(input_tokens);
        let made = price.input.times(input_tokens - cached_tokens)
            + price.cached_input.unwrap_or(price.input).times(cached_tokens)
            + price.output.times(output_tokens)
            + price.request;
        let fee = terms.own_key.then(|| PicoUsd::from_pico(made.pico() / FEE_PART));
        Some(Self {
            input_tokens,
            cached_tokens,
            output_tokens,
            cost: made + fee.unwrap_or_default(),
            fee,
        })
    }

    /// Adds what a router tells about the cost to a usage. Its own word for the cost of a call by the caller's own key is
    /// the fee alone.
    pub fn tell(&self, usage: &mut Value) {
        usage["cost"] = number(self.fee.unwrap_or(self.cost));
        if let Some(fee) = self.fee {
            usage["is_byok"] = true.into();
            usage["cost_details"] =
                json!({ "upstream_inference_cost": number(self.cost.saturating_sub(fee)) });
        }
    }
}

/// A number as the real service writes it: exact decimals, no exponent.
pub fn number(cost: PicoUsd) -> Value {
    let number: Option<serde_json::Number> = serde_json::from_str(&cost.to_string()).ok();
    number.map_or(Value::Null, Value::Number)
}

/// A router takes the twentieth part for a call by somebody's own key.
const FEE_PART: u64 = 20;
