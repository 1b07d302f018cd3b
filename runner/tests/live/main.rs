//! The real runner as PID 1 of a namespace of its own, driven by the real client.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod confinement;
mod files;
mod limits;
mod output;
mod proxy;
mod sandbox;
mod services;
mod signatures;
