//! The egress proxy beside each agent: names, models, money.
//!
//! It runs as its own user in the sandbox's network namespace, where packet rules turn everything to it. It never dials
//! what the workload dialled: a name is judged by policy, looked up by itself, and its address checked. Model hosts are
//! opened; there it holds the policy for requests, the credential and the ledger. So are hosts that get a secret value.
//!
//! | where | what |
//! |---|---|
//! | [`run`], [`state`], [`serving`] | the life of the proxy: first, later, end |
//! | [`listen`], [`accept`], [`phase`] | sockets, flows, generations |
//! | [`hello`], [`route`], [`wildcards`], [`tls`], [`splice`], [`relay`] | captured TLS |
//! | [`http80`], [`dns`] | captured port 80 and DNS |
//! | [`resolve`], [`address`], [`dial`] | our own look-ups and connections |
//! | [`ca`] | the sandbox's certificates |
//! | [`model`] | requests to models |
//! | [`inject`] | hosts that get values which the workload holds placeholders for |
//! | [`account`], [`rate`], [`log`], [`audit`] | money and record |
//! | [`redirect`], [`waits`] | are the packet rules still there; how long things take |
//! | [`selftest`] | the threat list, tried from inside |
//! | [`control`] | what the control plane may ask and order |

pub mod accept;
pub mod account;
pub mod address;
pub mod audit;
pub mod beacon;
pub mod ca;
pub mod connection;
pub mod control;
pub mod dial;
pub mod dns;
#[cfg(test)]
mod fixture;
pub mod hello;
pub mod http80;
pub mod inject;
pub mod listen;
pub mod log;
pub mod model;
pub mod orig_dst;
pub mod phase;
pub mod rate;
pub mod redirect;
pub mod relay;
pub mod resolve;
pub mod route;
pub mod run;
pub mod selftest;
pub mod serving;
pub mod splice;
pub mod state;
pub mod tls;
pub mod waits;
pub mod wildcards;
