//! The test kit and the end-to-end suites.
mod folder;
pub mod installation;
pub mod model;
pub mod processes;
pub mod stage;
