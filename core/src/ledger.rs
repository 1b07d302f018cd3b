//! The account of one sandbox: reserve, then settle, in integer pico-USD. Pure state, no I/O.
//!
//! A request is admitted only when the most that it can cost fits what is left, so that no number of requests at the
//! same time can overspend. A reservation ends in exactly one of three ways: settled with the bill, released because
//! nothing can be billed, or unresolved, which counts as spent in full until the model service tells its bill. Every
//! change is an [`Entry`] of the proxy's write-ahead log; [`Book::replay`] rebuilds the account from them.

use serde::{Deserialize, Serialize};

use crate::{control::proxy::Purse, money::PicoUsd};

mod account;
mod book;
mod entry;
pub mod generation;
pub mod log;
pub mod shared;

pub use account::Account;
pub use book::{Answering, Book};
pub use entry::Entry;

/// What one phase may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// Dollars.
    pub budget: PicoUsd,
    /// Requests.
    pub max_requests: u64,
    /// Tokens, in and out together.
    pub max_tokens: u64,
    /// Requests at the same time.
    pub max_parallel: u32,
}

impl From<&Purse> for Grant {
    fn from(purse: &Purse) -> Self {
        Self {
            budget: purse.budget,
            max_requests: purse.max_requests,
            max_tokens: purse.max_tokens,
            max_parallel: purse.max_parallel,
        }
    }
}

/// What a request wants, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The most that input and request can cost.
    pub input_cost: PicoUsd,
    /// Input tokens, at most.
    pub input_tokens: u64,
    /// Per output token.
    pub output_price: PicoUsd,
    /// Output tokens wanted.
    pub output_tokens: u64,
    /// Output below which the request is not worth making.
    pub least_output: u64,
}

/// A request that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// What is held.
    pub amount: PicoUsd,
    /// The output tokens that this pays for; the request must not ask for more.
    pub output_tokens: u64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The phase has no purse.
    #[error("no model may be called in this phase")]
    NoPurse,
    /// A bill was higher than the bound that it was admitted under, or another model answered than was asked.
    #[error("the account is frozen: the model service did not keep to what was reserved for")]
    Frozen,
    /// All requests are used up.
    #[error("all requests are used up")]
    Requests,
    /// Too many at the same time.
    #[error("too many requests at the same time")]
    Parallel,
    /// The tokens that are left do not cover the request.
    #[error("the tokens that are left do not cover the request")]
    Tokens,
    /// The money that is left does not cover the request.
    #[error("the money that is left does not cover the request")]
    Budget,
    /// It would fit if requests under way cost nothing.
    #[error("requests under way hold the money that is left")]
    Held,
}

impl Refused {
    /// May the same request be admitted once requests under way have ended?
    pub fn is_passing(self) -> bool {
        match self {
            Self::Parallel | Self::Held => true,
            Self::NoPurse | Self::Frozen | Self::Requests | Self::Tokens | Self::Budget => false,
        }
    }
}

/// What a request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bill {
    /// Dollars.
    pub cost: PicoUsd,
    /// Tokens in, those of caches included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Of these, written to a cache.
    #[serde(default)]
    pub written_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
}

/// Who caused that a request ended without a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nobody, or the workload.
    #[default]
    Nobody,
    /// The model service.
    Provider,
    /// The model service; the proxy tries again, and that is another request in this book.
    Retried,
}

#[cfg(test)]
mod tests;
