//! A sandbox in network namespaces, and an "internet" beside it: the stage of the threat suite.
//!
//! Two namespaces and a cable. In the one run the real init-iptables, the real proxy and the real runner, whose workload
//! is hostile. The other plays everything outside: web servers, a DNS resolver, a model service, a metadata service,
//! private addresses, and the control plane. It keeps a record of every connection, question and packet, so that a
//! test judges by what arrived and not by what the attacker says.
//!
//! Each wall can be left out, see [`Walls`]: an attack that fails behind the walls proves something only if it succeeds
//! without them.

pub mod address;
pub mod internet;
pub mod namespace;
pub mod packets;
pub mod sandbox;

pub use internet::Internet;
pub use namespace::Place;
pub use packets::{Packet, Transport};
pub use sandbox::{Image, Outcome, Stage, Walls};
