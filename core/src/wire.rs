//! What control plane and workers, and people and API, say to each other.
//!
//! Additive only: fields are added with a default, unknown fields are ignored, words are `snake_case`, times RFC 3339.

pub mod channel;
pub mod people;
pub mod worker;

/// The wire version spoken by this build.
pub const WIRE: u32 = 1;
/// The oldest wire version still understood.
pub const WIRE_OLDEST: u32 = 1;
