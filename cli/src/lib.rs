//! The `assay` command: everything that a person does with Assay from a terminal.
//!
//! Floor 3. `up` starts the API and a screener in one process; every other command speaks to an API over HTTP.

pub mod api;
pub mod args;
pub mod bundle;
pub mod cmd;
pub mod error;
pub mod follow;
pub mod policy;
pub mod profile;
pub mod screen;
pub mod tables;
pub mod up;
