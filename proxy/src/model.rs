//! The model path: typed allow-lists of fields, exact models and money that cannot be overspent.
//!
//! A request is judged ([`request`], by the data of [`spec`] and [`fields`]), bounded ([`bound`], [`images`]), reserved for (the
//! account), rebuilt with our own fields ([`own`]) and forwarded with our credential ([`exchange`], over [`pool`]); what
//! fails by the service's fault ([`failure`]) is tried again ([`retry`]). The answer is passed on ([`delivery`]) without our credential ([`scrub`])
//! while its usage is read ([`usage`], [`sse`]), and the reservation is settled; a bill that was cut off is asked for
//! afterwards ([`reconcile`]). With the policy's consent calls are recorded ([`recorder`]); a run can be answered from a
//! recording ([`replay`]). [`api`] is the HTTP side of it, for opened TLS hosts and for the plain port alike.

pub mod answer;
pub mod api;
pub mod bound;
pub mod delivery;
pub mod exchange;
pub mod failure;
pub mod fields;
pub mod head;
pub mod images;
pub mod json;
pub mod key;
pub mod own;
pub mod pool;
pub mod reading;
pub mod reconcile;
pub mod recorder;
pub mod refusal;
pub mod replay;
pub mod request;
pub mod retry;
pub mod scrub;
pub mod shape;
pub mod spec;
pub mod sse;
pub mod upstream;
pub mod usage;
