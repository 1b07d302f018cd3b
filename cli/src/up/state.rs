//! What `up` keeps in its folder: a lock, the secrets of the installation, and what is running.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use assay_core::upstream::Secret;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::objects::random_hex;
use crate::{error::Error, profile::write_private};

/// Held as long as `up` runs: two of them would fight over the database.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn take(folder: &Path) -> Result<Self, Error> {
        Self::try_take(folder)?.ok_or_else(|| {
            Error::Config(
                "this installation is running already; `assay down` ends it, --profile names another"
                    .to_owned(),
            )
        })
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn try_take(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|error| Error::unwritable(&path, &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(Error::unwritable(&path, &error.into())),
        }
    }
}

/// Makes the folder. Others may pass through it (the database has a user of its own) but see nothing.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::unwritable(folder, &error);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(failed)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).map_err(failed)
}

/// What has to stay the same from one start to the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// Seals the seeds of sandboxes.
    pub seal_key: Secret,
    /// The key of people, in the profile too.
    #[serde(default)]
    pub admin_key: Option<Secret>,
    /// The screener's key.
    #[serde(default)]
    pub worker_key: Option<Secret>,
    /// The id in the labels of its sandboxes.
    #[serde(default)]
    pub owner: Option<String>,
    /// The container engine's socket.
    #[serde(default)]
    pub engine: Option<PathBuf>,
    /// Where our static programs are.
    #[serde(default)]
    pub sandbox_bin: Option<PathBuf>,
}

impl Installation {
    /// The installation in this folder, if there is one.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn load(folder: &Path) -> Result<Option<Self>, Error> {
        read_json(&folder.join(INSTALLATION))
    }

    /// The installation in this folder, made when absent.
    ///
    /// # Errors
    /// Its file can neither be read nor written.
    pub fn load_or_make(folder: &Path) -> Result<Self, Error> {
        if let Some(installation) = Self::load(folder)? {
            return Ok(installation);
        }
        let installation = Self {
            seal_key: Secret::new(random_hex(32)?),
            admin_key: None,
            worker_key: None,
            owner: None,
            engine: None,
            sandbox_bin: None,
        };
        installation.store(folder)?;
        Ok(installation)
    }

    /// Keeps it, readable by its owner alone.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, folder: &Path) -> Result<(), Error> {
        write_json(&folder.join(INSTALLATION), self)
    }
}

/// What is running now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// The API's address.
    pub api: String,
    /// Its parts in words.
    pub parts: PartsInWords,
}

/// The parts of an installation in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsInWords {
    /// The database.
    pub database: String,
    /// The object store.
    pub objects: String,
    /// The screener.
    pub screener: String,
    /// The profile.
    pub profile: String,
}

impl Running {
    /// What runs by this folder's word, if anything.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn load(folder: &Path) -> Result<Option<Self>, Error> {
        read_json(&folder.join(RUNNING))
    }

    /// Tells that it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, folder: &Path) -> Result<(), Error> {
        write_json(&folder.join(RUNNING), self)
    }

    /// Tells that nothing runs any more.
    pub fn remove(folder: &Path) {
        if let Err(error) = std::fs::remove_file(folder.join(RUNNING)) {
            tracing::debug!(%error, "nothing said that it runs");
        }
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match std::fs::read(path) {
        Ok(content) => {
            let fault = |error| {
                Error::Config(format!(
                    "{}: {error}; `assay down --purge` starts afresh",
                    path.display()
                ))
            };
            serde_json::from_slice(&content).map(Some).map_err(fault)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::unreadable(path, &error)),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let content = serde_json::to_vec_pretty(value).map_err(|error| Error::Software(error.to_string()))?;
    write_private(path, &content)
}

const INSTALLATION: &str = "installation.json";
const RUNNING: &str = "running.json";

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn an_installation_keeps_its_secrets_from_start_to_start_and_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let first = Installation::load_or_make(folder.path()).unwrap();
        let second = Installation::load_or_make(folder.path()).unwrap();
        assert_eq!(first.seal_key.expose(), second.seal_key.expose());
        assert_eq!(first.seal_key.expose().len(), 64);
        let mode = std::fs::metadata(folder.path().join(INSTALLATION))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_second_start_is_refused_while_the_first_runs() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        assert!(
            Lock::take(folder.path())
                .unwrap_err()
                .to_string()
                .contains("assay down")
        );
        drop(first);
        // A process that another test is starting meanwhile has all files of this one until its program begins.
        let begun = Instant::now();
        while let Err(error) = Lock::take(folder.path()) {
            assert!(begun.elapsed() < Duration::from_mins(1), "{error}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
