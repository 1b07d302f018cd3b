//! The API as its users meet it: real servers over HTTP, a throw-away PostgreSQL, an object store on a folder.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "helpers of tests may fail loudly and say why they skip"
)]

mod contract;
mod described;
mod evidence;
mod follow;
mod identity;
mod immutable;
mod lease;
mod money;
mod people;
mod postgres;
mod queue;
mod registration;
mod retry;
mod secrets;
mod spans;
mod stage;
mod tokens;
mod walk;
mod work;
