//! Real clients, unchanged, on the stage: through the real packet rules, proxy and runner, told nothing but what every
//! agent is told by its environment.
//!
//! `tests/clients/setup.sh` installs them; `make clients` prints what came out as a table. A client that is not there is
//! skipped and says so.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic and says what it found"
)]

#[path = "clients/forged.rs"]
mod forged;
#[path = "clients/list.rs"]
mod list;
#[path = "clients/proven.rs"]
mod proven;
#[path = "clients/scene.rs"]
mod scene;
#[path = "clients/trust.rs"]
mod trust;
