//! The state directory: the proxy's own volume. It tells a first life, which serves, from a later one, which only
//! reports.
//!
//! The first life reads the assignment, keeps what a later one needs to sign its answers, makes the log, and only then
//! unlinks the assignment. Where a log exists already, the account may have open requests that nobody can close: such
//! a proxy never serves again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use assay_core::{
    control::proxy::ProxyAssignment,
    id::{Fence, RunId, SandboxId},
    phase::EgressPhase,
    policy::Recorded,
    upstream::Secret,
};
use serde::{Deserialize, Serialize};

use crate::audit::{Segments, Shelf, Sizes};

/// The files of the state directory.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// What a later life needs to answer the control plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Which sandbox this is.
    pub sandbox: SandboxId,
    /// Which run it works for.
    pub run: RunId,
    /// The fence at creation.
    pub fence: Fence,
    /// The control plane's public key, hexadecimal.
    pub public_key: String,
    /// The key of the MAC on answers, hexadecimal.
    pub mac_key: Secret,
    /// The phase at start.
    pub phase: EgressPhase,
}

impl Identity {
    /// The part of an assignment that outlives it.
    pub fn of(assignment: &ProxyAssignment) -> Self {
        Self {
            sandbox: assignment.sandbox,
            run: assignment.run,
            fence: assignment.fence,
            public_key: assignment.public_key.clone(),
            mac_key: assignment.mac_key.clone(),
            phase: assignment.phase,
        }
    }
}

/// What a serving proxy writes, all of it empty.
#[derive(Debug)]
pub struct Files {
    /// The write-ahead log.
    pub log: File,
    /// The audit.
    pub audit: Segments,
    /// The recording, where one is made.
    pub recording: Option<File>,
    /// The recording to answer from, where there is one.
    pub replay: Option<File>,
}

/// Which life this is.
#[derive(Debug)]
pub enum Life {
    /// It serves.
    First {
        /// What it serves.
        assignment: Box<ProxyAssignment>,
        /// What it writes.
        files: Files,
    },
    /// It only reports.
    Later(Identity),
}

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The assignment cannot be read.
    #[error("read the assignment {path}")]
    ReadAssignment {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The assignment is not of the known form. The source names line and column, never a value.
    #[error("the assignment is malformed at line {line}, column {column}")]
    MalformedAssignment {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// The state directory cannot be used.
    #[error("use the state file {path}")]
    State {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StateDir {
    /// The folder, which exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The write-ahead log.
    pub fn log(&self) -> PathBuf {
        self.0.join("ledger.jsonl")
    }

    /// The pieces of the audit.
    pub fn audit(&self) -> io::Result<Shelf> {
        Shelf::open(&self.0)
    }

    /// The recording; none where the policy does not consent.
    pub fn recording(&self) -> PathBuf {
        self.0.join("recording.jsonl")
    }

    fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }

    /// Finds out which life this is and prepares it. The assignment is gone afterwards.
    pub fn begin(&self, assignment: &Path) -> Result<Life, Error> {
        if self.log().exists() {
            let identity = self.read_identity()?;
            unlink(assignment);
            return Ok(Life::Later(identity));
        }
        let read = read_assignment(assignment)?;
        self.keep_identity(&read)?;
        let audit = Segments::create(&self.0, Sizes::default()).map_err(|source| Error::State {
            path: self.0.clone(),
            source,
        })?;
        let wanted = |wanted: bool, path: PathBuf| wanted.then(|| self.create(path)).transpose();
        let files = Files {
            audit,
            recording: wanted(read.record == Recorded::Models, self.recording())?,
            replay: wanted(read.replay.is_some(), self.0.join("replay.jsonl"))?,
            // Last: by it a later life is known.
            log: self.create(self.log())?,
        };
        unlink(assignment);
        Ok(Life::First {
            assignment: Box::new(read),
            files,
        })
    }

    fn create(&self, path: PathBuf) -> Result<File, Error> {
        let create = || {
            let file = private().create(true).truncate(true).open(&path)?;
            file.sync_all()?;
            File::open(&self.0)?.sync_all()?;
            Ok(file)
        };
        create().map_err(|source| Error::State { path, source })
    }

    fn keep_identity(&self, assignment: &ProxyAssignment) -> Result<(), Error> {
        let path = self.identity();
        let keep = || {
            let identity = Identity::of(assignment);
            let mut file = private().create(true).truncate(true).open(&path)?;
            file.write_all(&serde_json::to_vec(&identity)?)?;
            file.sync_all()
        };
        keep().map_err(|source| Error::State { path, source })
    }

    fn read_identity(&self) -> Result<Identity, Error> {
        let path = self.identity();
        fs::read(&path)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(Into::into))
            .map_err(|source| Error::State { path, source })
    }
}

/// At most `most` bytes of a file from an offset; empty beyond its end.
pub fn read_from(path: &Path, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Readable by the proxy's own user alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn read_assignment(path: &Path) -> Result<ProxyAssignment, Error> {
    let bytes = fs::read(path).map_err(|source| Error::ReadAssignment {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|error| Error::MalformedAssignment {
        line: error.line(),
        column: error.column(),
    })
}

/// A mount that is read-only keeps its file; the container around it is the proxy's own.
fn unlink(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "the assignment cannot be unlinked");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::fixture;

    #[test]
    fn the_first_life_takes_the_assignment_and_every_later_one_only_reports() {
        let folder = tempfile::tempdir().unwrap();
        let (state, path) = (
            StateDir::new(folder.path()),
            folder.path().join("assignment.json"),
        );
        let assignment = fixture::assignment();
        fs::write(&path, serde_json::to_vec(&assignment).unwrap()).unwrap();
        assert!(matches!(state.begin(&path), Ok(Life::First { .. })));
        assert!(!path.exists());
        let mode = fs::metadata(state.identity()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "a second assignment changes nothing").unwrap();
        let Ok(Life::Later(identity)) = state.begin(&path) else {
            panic!("a later life must not serve");
        };
        assert_eq!(identity.sandbox, assignment.sandbox);
        assert!(!path.exists());
    }

    #[test]
    fn a_malformed_assignment_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assignment.json");
        fs::write(&path, r#"{"mac_key": "sk-secret", "sandbox": 1}"#).unwrap();
        let error = StateDir::new(folder.path()).begin(&path).unwrap_err();
        assert!(!format!("{error:?}").contains("sk-secret"), "{error:?}");
    }
}
