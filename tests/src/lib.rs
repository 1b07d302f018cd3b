//! The test kit and the end-to-end suites.
pub mod builds;
mod folder;
pub mod installation;
pub mod kubectl;
pub mod model;
pub mod person;
pub mod processes;
pub mod stage;
