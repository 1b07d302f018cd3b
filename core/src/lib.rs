//! The pure domain of Assay: words, money, policy, tasks, causes, ledger and wire types.
//!
//! Floor 0. A module belongs here when it is pure (no tokio, no I/O, no environment, no randomness of its own)
//! and at least two programs speak it. [`clock::SystemClock`] is the only reader of the wall clock.

pub mod agent;
pub mod archive;
pub mod audit;
pub mod cause;
pub mod clock;
pub mod control;
pub mod digest;
pub mod dockerfile;
pub mod egress;
pub mod id;
pub mod ledger;
pub mod limits;
pub mod money;
pub mod patch;
pub mod phase;
pub mod policy;
pub mod price;
pub mod problem;
pub mod recording;
pub mod reward;
#[cfg(feature = "schema")]
mod schema;
pub mod secret;
pub mod task;
pub mod trajectory;
pub mod trust;
pub mod upstream;
pub mod version;
pub mod wire;
