//! Profiles: address and key of an API, one file each, readable by their owner alone.

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use assay_core::upstream::Secret;
use serde::{Deserialize, Serialize};

use crate::{args::Global, error::Error};

/// Where an API is and what opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its address, without a path.
    pub api: String,
    /// The key.
    pub key: Secret,
}

/// Folders of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Holds `profiles/`.
    pub config: PathBuf,
    /// Holds what `up` keeps, one folder per profile.
    pub state: PathBuf,
}

impl Places {
    /// From the command line and the environment that it read.
    ///
    /// PostgreSQL refuses to run as root and its own user cannot enter root's home, so root's state has its place in `/var/lib`.
    ///
    /// # Errors
    /// Where there is neither a home nor an explicit folder.
    pub fn of(global: &Global, is_root: bool) -> Result<Self, Error> {
        let home = |inner: &str| {
            let missing = "HOME is not set; give --config-dir and --state-dir";
            let home = global
                .home
                .clone()
                .ok_or_else(|| Error::Config(missing.to_owned()))?;
            Ok::<_, Error>(home.join(inner))
        };
        let config = match (&global.config_dir, &global.xdg_config_home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(base)) => base.join("assay"),
            (None, None) => home(".config/assay")?,
        };
        let state = match (&global.state_dir, &global.xdg_state_home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(base)) => base.join("assay"),
            (None, None) if is_root => PathBuf::from("/var/lib/assay"),
            (None, None) => home(".local/state/assay")?,
        };
        Ok(Self { config, state })
    }

    /// The file of a profile.
    pub fn profile(&self, name: &str) -> PathBuf {
        self.config.join("profiles").join(format!("{name}.toml"))
    }

    /// What `up` keeps under a profile's name.
    pub fn installation(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }
}

impl Profile {
    /// Reads a profile; options of the command line win over it.
    ///
    /// # Errors
    /// No such profile, or one that cannot be read.
    pub fn load(global: &Global, places: &Places) -> Result<Self, Error> {
        if let (Some(api), Some(key)) = (&global.api, &global.key) {
            return Self::new(api, key);
        }
        let path = places.profile(&global.profile);
        let stored = match std::fs::read_to_string(&path) {
            Ok(text) => Some(parse(&text, &path)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::unreadable(&path, &error)),
        };
        match (stored, &global.api, &global.key) {
            (Some(stored), api, key) => {
                let api = api.as_deref().unwrap_or(&stored.api);
                Self::new(api, key.as_deref().unwrap_or(stored.key.expose()))
            }
            (None, _, _) => Err(Error::Config(format!(
                "there is no profile {:?}; start an installation with `assay up`, or store one with `assay login URL`",
                global.profile
            ))),
        }
    }

    /// A profile from an address and a key.
    ///
    /// # Errors
    /// An address that is no `http` or `https` URL without a path.
    pub fn new(api: &str, key: &str) -> Result<Self, Error> {
        let api = api.trim_end_matches('/');
        let rest = api
            .strip_prefix("http://")
            .or_else(|| api.strip_prefix("https://"));
        let sane = rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']));
        if !sane {
            return Err(Error::Usage(format!(
                "{api:?} is no address of an API; want https://HOST or http://HOST:PORT"
            )));
        }
        let api = api.to_owned();
        let key = Secret::new(key.trim());
        Ok(Self { api, key })
    }

    /// Writes the profile, mode 0600, in one step.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|error| Error::Software(error.to_string()))?;
        write_private(path, text.as_bytes())
    }
}

fn parse(text: &str, path: &Path) -> Result<Profile, Error> {
    let fault = |error: toml::de::Error| Error::Config(format!("{}: {}", path.display(), error.message()));
    toml::from_str(text).map_err(fault)
}

/// Writes a file that only its owner can read: beside it first, then renamed, so that nobody meets half of it.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::unwritable(path, &error);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let staged = path.with_extension(format!("new{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&staged).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&staged, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_profile_is_kept_for_its_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let global = Global::for_tests(folder.path());
        let places = Places::of(&global, false).unwrap();
        let profile = Profile::new("http://127.0.0.1:8000/", "assay_x\n").unwrap();
        let path = places.profile("local");
        profile.store(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let read = Profile::load(&global, &places).unwrap();
        assert_eq!(read.api, "http://127.0.0.1:8000");
        assert_eq!(read.key.expose(), "assay_x");
    }

    #[test]
    fn options_win_over_the_profile() {
        let folder = tempfile::tempdir().unwrap();
        let mut global = Global::for_tests(folder.path());
        let places = Places::of(&global, false).unwrap();
        Profile::new("http://a:1", "k")
            .unwrap()
            .store(&places.profile("local"))
            .unwrap();
        global.api = Some("https://b".to_owned());
        let read = Profile::load(&global, &places).unwrap();
        assert_eq!((read.api.as_str(), read.key.expose()), ("https://b", "k"));
    }

    #[test]
    fn without_a_profile_it_says_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let global = Global::for_tests(folder.path());
        let places = Places::of(&global, false).unwrap();
        let error = Profile::load(&global, &places).unwrap_err();
        assert!(error.to_string().contains("assay up"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for text in [
            "",
            "localhost:8000",
            "ftp://x",
            "http://",
            "http://u@h",
            "http://h/path",
            "http://h?x",
        ] {
            assert!(Profile::new(text, "k").is_err(), "{text}");
        }
    }

    #[test]
    fn root_keeps_its_state_where_the_database_user_can_enter() {
        let mut global = Global::for_tests(Path::new("/c"));
        global.state_dir = None;
        assert_eq!(
            Places::of(&global, true).unwrap().state,
            Path::new("/var/lib/assay")
        );
        global.home = Some(PathBuf::from("/home/a"));
        assert_eq!(
            Places::of(&global, false).unwrap().state,
            Path::new("/home/a/.local/state/assay")
        );
    }
}
