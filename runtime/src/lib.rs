//! Process plumbing shared by the servers: telemetry, lifecycle, serving, a small HTTP client, clients of sandboxes.
//!
//! Floor 1. It knows no word of the domain but what the control protocol needs.

pub mod client;
pub mod control;
pub mod exit;
pub mod lifecycle;
pub mod serve;
pub mod telemetry;
