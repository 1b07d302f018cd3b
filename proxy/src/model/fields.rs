//! The fields that may be forwarded, per API: the one place where they are listed.
//!
//! What is not listed is refused: it may run other models, reach the internet from the provider's side, keep what was
//! sent, or be billed in ways that no bound covers.

use super::shape::{
    Field, Presence,
    Presence::{Optional, Required},
    Shape::{self, Bool, Object, OneOf, Text},
};

mod chat;
mod completions;
mod embeddings;
mod messages;
mod responses;

pub use chat::CHAT;
pub use completions::COMPLETIONS;
pub use embeddings::EMBEDDINGS;
pub use messages::{COUNT_TOKENS, MESSAGES};
pub use responses::RESPONSES;

const fn field(key: &'static str, shape: Shape, presence: Presence) -> Field {
    Field { key, shape, presence }
}

const STREAM_OPTIONS: &[Field] = &[
    field("include_usage", Bool, Optional),
    field("include_obfuscation", Bool, Optional),
];

/// Five minutes only: a longer life costs more than the price table says.
const CACHE_CONTROL: Shape = Object(&[
    field("type", OneOf(&["ephemeral"]), Required),
    field("ttl", OneOf(&["5m"]), Optional),
]);

const TYPE: Field = field("type", Text(SHORT), Required);
const ROLE: Field = field("role", Text(SHORT), Required);
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh"];
const SHORT: usize = 512;
const LONG: usize = 16 * 1024 * 1024;
const MANY: i64 = 100_000_000;
