//! The worker that leases runs and drives their attempts through an engine.
//!
//! Every decision is the pure [`next::next`]; the rest is a thin shell that carries it out. Nothing is held in memory
//! that a restart would lose: row, offsets and names are in the API, the work itself is in the sandbox.

pub mod classify;
pub mod cmd;
mod config;
pub mod derive;
pub mod driver;
pub mod evidence;
pub mod guard;
pub mod next;
pub mod outline;
pub mod output;
pub mod platform;
pub mod row;
pub mod sandboxes;
pub mod slots;
pub mod trial;
mod worker;

pub use config::Config;
pub use worker::{Error, run, run_guarded};
