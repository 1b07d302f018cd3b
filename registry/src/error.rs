//! What can go wrong between us and a registry.

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry answered, and it has no such thing.
    #[error("{0} does not exist in its registry")]
    NotThere(String),
    /// The registry answered, and it does not let us.
    #[error("{0}")]
    Refused(String),
    /// No answer, or one that says nothing about the image. It may pass.
    #[error("{0}")]
    Away(String),
    /// What came is not what its digest says, or more than is taken.
    #[error("{0}")]
    Wrong(String),
    /// A file of this machine failed.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn away(message: &dyn std::fmt::Display) -> Self {
        Self::Away(message.to_string())
    }

    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { path, source }
    }

    /// May the same call succeed later?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}
