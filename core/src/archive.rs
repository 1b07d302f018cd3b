//! Archives (`tar.gz`) of tasks and agents: what they hold, how they are unpacked within caps, how they are made.
//!
//! The one module of core that touches files: [`unpack()`], [`scan`] and [`pack()`] use `std::fs` beneath a folder that
//! the caller names, and block. Nothing is ever written outside of it: names are checked before anything is created,
//! nothing is written through a link, and links are made last, once it is known that all of them stay inside.

mod files;
mod ignore;
mod pack;
mod read;
mod unpack;

pub use files::{Entry, Files};
pub use pack::{pack, scan};
pub use read::list;
pub use unpack::unpack;

/// What an archive may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Entries of every kind.
    pub entries: u64,
    /// Bytes of all files together.
    pub unpacked_bytes: u64,
    /// Unpacked to packed bytes, once [`Self::ratio_from_bytes`] are unpacked.
    pub ratio: u64,
    /// Unpacked bytes from which the ratio counts.
    pub ratio_from_bytes: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            entries: 100_000,
            unpacked_bytes: 4 << 30,
            ratio: 200,
            ratio_from_bytes: 256 << 20,
        }
    }
}

/// Why an archive is refused. Each is the fault of who made it, but for [`Error::Io`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no `tar.gz`.
    #[error("not a readable tar.gz: {0}")]
    Malformed(String),
    /// A name leaves the archive, or is none.
    #[error("entry {path:?} {fault}")]
    Path {
        /// The name as written.
        path: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Neither file, nor folder, nor symbolic link.
    #[error("entry {path:?} is a {kind}; only files, folders and symbolic links are taken")]
    Kind {
        /// Its name.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The same name twice.
    #[error("entry {0:?} comes twice")]
    Duplicate(String),
    /// A link leads out.
    #[error("link {path:?} to {target:?} {fault}")]
    Link {
        /// Its name.
        path: String,
        /// Where it leads.
        target: String,
        /// What is wrong with that.
        fault: &'static str,
    },
    /// Too many entries.
    #[error("more than {0} entries")]
    TooManyEntries(u64),
    /// Too much content.
    #[error("more than {0} bytes unpacked")]
    TooBig(u64),
    /// Content that unpacks to suspiciously much.
    #[error("unpacks to more than {0} times its size")]
    Ratio(u64),
    /// The file system failed.
    #[error("{operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// What it said.
        source: std::io::Error,
    },
}

impl Error {
    fn io(operation: &'static str, path: impl AsRef<std::path::Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Is it the fault of the machine, not of the archive?
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

#[cfg(test)]
mod tests;
