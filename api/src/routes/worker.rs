//! The worker's side. Every write carries the fence; 0 rows mean that the lease is lost.

pub mod accounts;
pub mod artifacts;
pub mod claim;
pub mod events;
pub mod lease;
pub mod output;
pub mod register;
pub mod report;
pub mod task;
