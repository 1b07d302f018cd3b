//! Finds the three programs that go into every sandbox.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where the three programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The folder that holds them all.
    pub folder: PathBuf,
}

/// In `folder`, or beside this program, or where `make sandbox` leaves them when it runs from a checkout.
///
/// # Errors
/// One is missing everywhere.
pub fn find(folder: Option<&Path>) -> Result<Programs, Error> {
    let places = match folder {
        Some(folder) => vec![folder.to_owned()],
        None => std::env::current_exe()
            .map(|program| usual_places(&program))
            .unwrap_or_default(),
    };
    let complete = |place: &&PathBuf| NAMES.iter().all(|name| place.join(name).is_file());
    match places.iter().find(complete) {
        Some(folder) => Ok(Programs {
            folder: folder.clone(),
        }),
        None => Err(Error::Config(format!(
            "{} are not together in {}; run `make sandbox`, or name their folder by --sandbox-bin",
            NAMES.join(", "),
            places
                .iter()
                .map(|place| place.display().to_string())
                .collect::<Vec<_>>()
                .join(" or ")
        ))),
    }
}

fn usual_places(program: &Path) -> Vec<PathBuf> {
    let beside = program.parent().unwrap_or(Path::new("/")).to_owned();
    let target = beside.parent().unwrap_or(Path::new("/"));
    let triple = format!("{}-unknown-linux-gnu/sandbox", std::env::consts::ARCH);
    let built = target.join(triple);
    vec![beside, built]
}

const NAMES: [&str; 3] = ["assay-runner", "assay-proxy", "assay-init-iptables"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_have_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        for name in &NAMES[..2] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let error = find(Some(folder.path())).unwrap_err();
        assert!(error.to_string().contains("make sandbox"), "{error}");
        std::fs::write(folder.path().join(NAMES[2]), "").unwrap();
        assert_eq!(find(Some(folder.path())).unwrap().folder, folder.path());
    }

    #[test]
    fn a_checkout_is_looked_into_after_the_own_folder() {
        let places = usual_places(Path::new("/src/target/debug/assay"));
        assert_eq!(places[0], Path::new("/src/target/debug"));
        assert!(places[1].starts_with("/src/target") && places[1].ends_with("sandbox"));
    }
}
