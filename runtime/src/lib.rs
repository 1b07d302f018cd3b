//! Process plumbing shared by the servers: telemetry, lifecycle, serving, a small HTTP client, clients of sandboxes and of model routers.
//!
//! Floor 1. It knows no word of the domain but what these protocols need.

pub mod client;
pub mod control;
pub mod exit;
pub mod lifecycle;
pub mod router;
pub mod serve;
pub mod telemetry;
