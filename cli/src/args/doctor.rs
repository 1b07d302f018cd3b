//! Options of `doctor`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// `doctor`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").multiple(false))]
pub struct DoctorArgs {
    /// Folder with assay-runner, assay-proxy and assay-init-iptables
    #[arg(long, env = "ASSAY_SANDBOX_BIN", hide_env_values = true, value_name = "DIR")]
    pub sandbox_bin: Option<PathBuf>,
    /// Socket of Docker or Podman
    #[arg(long, env = "DOCKER_HOST", hide_env_values = true, value_name = "URL")]
    pub docker_host: Option<String>,
    /// Start a sandbox instead and try the known ways out from inside of it
    #[arg(long, group = "where")]
    pub sandbox: bool,
    /// The image of that sandbox
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "debian:bookworm-slim",
        requires = "sandbox"
    )]
    pub image: String,
    /// Look at a Kubernetes cluster instead: its walls, from inside of a sandbox too, and the services around them
    #[arg(long, group = "where")]
    pub cluster: bool,
    /// How that cluster is reached, and where the installation is
    #[command(flatten)]
    pub at: ClusterAt,
    /// Options of `assay-screener run` over those that the cluster's screeners have, e.g. `-- --mirror docker.io=http://r:5000`
    #[arg(last = true, value_name = "OPTION", requires = "cluster")]
    pub screener: Vec<String>,
}

/// Which cluster, and where in it.
#[derive(Debug, Args)]
pub struct ClusterAt {
    /// A kubeconfig with the rights of an operator; else the cluster that this runs in, KUBECONFIG, ~/.kube/config
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub context: Option<String>,
    /// The namespace of the control plane
    #[arg(
        long,
        value_name = "NAME",
        default_value = "assay-system",
        requires = "cluster"
    )]
    pub system_namespace: String,
}
