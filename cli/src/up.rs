//! `up` and `down`: everything on this machine in one process.

pub mod engine;
pub mod objects;
pub mod postgres;
pub mod sandbox;
