//! What the service charges, counted on its side: the proxy's ledger is compared with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use assay_core::{money::PicoUsd, price::PriceTable};
use serde::{Deserialize, Serialize};

/// What one request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Both by the price table.
    pub cost: PicoUsd,
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

/// What a request of a model costs; `None` where the model has no price.
pub fn charge(prices: &PriceTable, model: &str, input_tokens: u64, output_tokens: u64) -> Option<Charge> {
    let price = prices.models.get(&model.parse().ok()?)?;
    let cost = price.input.times(input_tokens) + price.output.times(output_tokens) + price.request;
    Some(Charge {
        input_tokens,
        output_tokens,
        cost,
    })
}
