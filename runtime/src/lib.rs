//! Process plumbing shared by the servers: telemetry, lifecycle, serving, health, a small HTTP client.
//!
//! Floor 1. It knows no word of the domain but what the control protocol needs.

pub mod client;
pub mod control;
pub mod exit;
pub mod health;
pub mod lifecycle;
pub mod serve;
pub mod telemetry;
