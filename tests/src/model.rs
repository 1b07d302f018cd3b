//! A scripted model service: speaks the API of OpenRouter and OpenAI over TLS, and keeps its own bill.
//!
//! It is a real server with real certificates; only its answers come from a script instead of a model. Words in the
//! last user message make it misbehave, see [`script::Fault`].

pub mod answer;
pub mod bill;
pub mod catalogue;
pub mod heard;
pub mod messages;
pub mod script;
pub mod serve;
pub mod tls;

pub use bill::Bill;
pub use catalogue::Offer;
pub use heard::Heard;
pub use script::Script;
pub use serve::{Model, Settings};
