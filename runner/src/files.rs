//! Files in and out of the container, with a workload that may change every path under our hands.

pub(crate) mod collect;
pub(crate) mod glob;
pub(crate) mod list;
pub(crate) mod path;
pub(crate) mod put;
pub(crate) mod unpack;
