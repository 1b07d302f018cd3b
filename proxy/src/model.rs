//! The model path: `chat/completions` with a typed allow-list of fields, exact models and money that cannot be overspent.
//!
//! A request is judged ([`request`]), bounded ([`bound`]), reserved for (the account), rebuilt and forwarded with our
//! credential ([`exchange`]); its answer is passed on while its usage is read ([`usage`], [`sse`]), and the reservation
//! is settled. [`api`] is the HTTP side of it, for opened TLS hosts and for the plain port alike.

pub mod answer;
pub mod api;
pub mod bound;
pub mod exchange;
pub mod fields;
pub mod json;
pub mod refusal;
pub mod request;
pub mod shape;
pub mod sse;
pub mod upstream;
pub mod usage;
