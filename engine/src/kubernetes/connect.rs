//! The client: from inside of the cluster, else from a file.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::settings::Access;
use crate::Error;

/// Longest wait for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(10);
/// Where a pod finds who it is.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// In-cluster, then `KUBECONFIG`, then `~/.kube/config`; a named file or context skips what comes before it.
pub(super) async fn client(access: &Access) -> Result<Client, Error> {
    let found = Surroundings::look();
    let mut config = match way(access, found)? {
        Way::Inside => Config::incluster().map_err(|error| refused(&error))?,
        Way::Files(files) => by_files(&files, access.context.clone()).await?,
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| refused(&error))
}

/// What of this process's surroundings leads to a cluster.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    /// It is a pod with a token.
    inside: bool,
    /// `KUBECONFIG`: one file, or several.
    kubeconfig: Option<OsString>,
    home: Option<PathBuf>,
}

impl Surroundings {
    fn look() -> Self {
        Self::of(
            |name| std::env::var_os(name),
            Path::new(TOKEN),
            std::env::home_dir(),
        )
    }

    /// Kubernetes tells every container where its API is, also one that has no token to show there.
    fn of(variable: impl Fn(&str) -> Option<OsString>, token: &Path, home: Option<PathBuf>) -> Self {
        Self {
            inside: variable("KUBERNETES_SERVICE_HOST").is_some() && token.is_file(),
            kubeconfig: variable("KUBECONFIG"),
            home,
        }
    }
}

/// How the cluster is reached.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// As a pod.
    Inside,
    /// By what these files say together; where they differ, the first one counts.
    Files(Vec<PathBuf>),
}

fn way(access: &Access, found: Surroundings) -> Result<Way, Error> {
    if let Some(named) = &access.kubeconfig {
        return Ok(Way::Files(vec![named.clone()]));
    }
    if found.inside && access.context.is_none() {
        return Ok(Way::Inside);
    }
    let told = found.kubeconfig.unwrap_or_default();
    let files: Vec<_> = std::env::split_paths(&told)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !files.is_empty() {
        return Ok(Way::Files(files));
    }
    let home = found
        .home
        .ok_or_else(|| refused(&"no kubeconfig is named, and there is no home folder to find one in"))?;
    Ok(Way::Files(vec![home.join(".kube/config")]))
}

async fn by_files(files: &[PathBuf], context: Option<String>) -> Result<Config, Error> {
    let together = files.iter().try_fold(Kubeconfig::default(), |all, path| {
        Kubeconfig::read_from(path).and_then(|one| all.merge(one))
    });
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(together.map_err(|error| refused(&error))?, &options).await;
    config.map_err(|error| refused(&error))
}

fn refused(error: &dyn std::fmt::Display) -> Error {
    Error::Refused {
        operation: "connect to the cluster",
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
