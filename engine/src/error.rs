//! What can go wrong in an engine, and whether trying again may help.

/// Why an engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine did not answer, or answered with a fault of its own.
    #[error("{operation}: {message}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        message: String,
    },
    /// The engine refused what was asked for.
    #[error("{operation}: {message}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        message: String,
    },
    /// A container of the sandbox ended before it was ready.
    #[error("{container} ended with code {code} before the sandbox was ready: {log}")]
    Died {
        /// Which one: `init`, `proxy`, `main` or `service`.
        container: &'static str,
        /// Its exit code.
        code: i64,
        /// The end of what it printed.
        log: String,
    },
    /// Something took too long.
    #[error("{operation}: not done after {seconds} s")]
    Timeout {
        /// What was waited for.
        operation: &'static str,
        /// How long.
        seconds: u64,
    },
    /// There was no room for it so far. Nothing ran, so nothing was tried.
    #[error("no room for the sandbox: {0}")]
    NoRoom(String),
    /// The image does not exist where the engine looks.
    #[error("image {0} does not exist here")]
    NoImage(String),
}

impl Error {
    /// May the same call succeed later?
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Timeout { .. } | Self::NoRoom(_)
        )
    }
}
