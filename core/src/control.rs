//! How the control plane speaks to a sandbox: signed calls to the runner and the proxy, answers with a MAC.

pub mod build;
pub mod init;
pub mod ledger;
pub mod proxy;
pub mod runner;
pub mod service;
pub mod signature;
