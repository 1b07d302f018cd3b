//! What is taken from those who run what strangers wrote: system calls that a container runtime refuses by default, and
//! capabilities. Shared by the runner of a sandbox and by the watcher of a builder, which both begin without a filter
//! because they make a user namespace first.

mod filter;
mod rights;

pub use self::{
    filter::{Error, programs},
    rights::bound,
};
