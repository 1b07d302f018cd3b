//! The client: from inside of the cluster, else from a file.

use std::time::Duration;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::settings::Access;
use crate::Error;

/// Longest wait for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(10);

/// In-cluster, then `KUBECONFIG`, then `~/.kube/config`; a named file or context skips what comes before it.
pub(super) async fn client(access: &Access) -> Result<Client, Error> {
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match &access.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| refused(&error))?;
            Config::from_custom_kubeconfig(file, &options).await
        }
        None if access.context.is_none() && inside() => {
            return finish(Config::incluster().map_err(|error| refused(&error))?);
        }
        None => Config::from_kubeconfig(&options).await,
    }
    .map_err(|error| refused(&error))?;
    config.connect_timeout = Some(CONNECT);
    finish(config)
}

fn finish(config: Config) -> Result<Client, Error> {
    Client::try_from(config).map_err(|error| refused(&error))
}

/// Kubernetes tells its pods so.
fn inside() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn refused(error: &dyn std::fmt::Display) -> Error {
    Error::Refused {
        operation: "connect to the cluster",
        message: error.to_string(),
    }
}
