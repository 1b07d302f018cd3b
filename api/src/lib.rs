//! The API server: queue, store of record, objects. The only user of the database and of the object store's client.
//!
//! Any number of replicas serve the same database; none of them remembers anything that another one needs.

pub mod app;
pub mod archive;
pub mod catalogue;
pub mod check;
pub mod cmd;
pub mod code;
pub mod config;
pub mod deadline;
pub mod evidence;
pub mod extract;
pub mod identity;
pub mod jobs;
pub mod key;
pub mod metrics;
pub mod objects;
pub mod observe;
pub mod openapi;
pub mod outcome;
pub mod pending;
pub mod privacy;
pub mod refusal;
pub mod routes;
pub mod seal;
pub mod secrets;
pub mod server;
pub mod store;
pub mod suffix;
pub mod wake;

pub use config::{Config, Database};
pub use identity::Settings as WorkerTokens;
pub use key::create_key;
pub use objects::Settings as ObjectSettings;
pub use pending::{Load, PendingWork};
pub use server::{Error, Server, serve};
pub use store::{connect, migrate};
