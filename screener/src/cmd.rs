//! The command line of `assay-screener`.

mod builds;
mod cluster;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use assay_engine::{
    Engine,
    containers::{Binaries, Containers, Settings},
    kubernetes::{self, Kubernetes},
};
use assay_runtime::{lifecycle, telemetry};
use clap::{Parser, Subcommand};

use self::cluster::{ClusterArgs, EngineKind};
use crate::{
    config::Config,
    guard::{self, Wall},
    platform::Credential,
    worker,
};

/// The worker that leases runs and drives their attempts.
#[derive(Debug, Parser)]
#[command(name = "assay-screener", version)]
pub struct Arguments {
    /// Logging.
    #[command(flatten)]
    pub log: telemetry::LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work until SIGTERM, then hand the leases back and leave the sandboxes alive.
    Run(Box<RunArgs>),
}

/// How to work.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The API's base URL.
    #[arg(long, env = "ASSAY_API", value_name = "URL")]
    pub api: String,
    /// The file with the worker's key, or with the token of its pod. It is read for each call.
    #[arg(long, env = "ASSAY_KEY_FILE", value_name = "FILE")]
    pub key_file: PathBuf,
    /// A stable name, e.g. the host's.
    #[arg(long, env = "ASSAY_WORKER_NAME", default_value = "screener")]
    pub name: String,
    /// Which runs it takes.
    #[arg(long, env = "ASSAY_CLASS", default_value = "1")]
    pub class: String,
    /// Attempts at the same time. As many again may wait for their images meanwhile.
    #[arg(long, env = "ASSAY_SLOTS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: u32,
    /// Where sandboxes run.
    #[arg(long, env = "ASSAY_ENGINE", value_enum, default_value = "containers")]
    pub engine: EngineKind,
    /// The unix socket of Docker or Podman.
    #[arg(
        long,
        env = "ASSAY_ENGINE_SOCKET",
        default_value = "/var/run/docker.sock",
        value_name = "FILE"
    )]
    pub engine_socket: PathBuf,
    /// The folder of the static programs: assay-runner, assay-init-iptables, assay-proxy. Not for Kubernetes, where they are
    /// in images.
    #[arg(
        long,
        env = "ASSAY_SANDBOX_BIN",
        value_name = "DIR",
        required_if_eq("engine", "containers")
    )]
    pub sandbox_bin: Option<PathBuf>,
    /// Archives and build contexts while they are needed.
    #[arg(
        long,
        env = "ASSAY_WORK_DIR",
        default_value = "/var/lib/assay/screener",
        value_name = "DIR"
    )]
    pub work_dir: PathBuf,
    /// A DNS server that proxies ask; may be given several times.
    #[arg(
        long = "resolver",
        env = "ASSAY_RESOLVERS",
        value_delimiter = ',',
        value_name = "ADDRESS:PORT"
    )]
    pub resolvers: Vec<SocketAddr>,
    /// Where health and metrics are served.
    #[arg(
        long,
        env = "ASSAY_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,
    /// Seconds between two searches for sandboxes that nobody drives.
    #[arg(long, env = "ASSAY_RECONCILE_SEC", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub reconcile_sec: u64,
    /// A wall of the cluster that may be missing; without it a cluster that lacks one gets no run.
    #[arg(
        long = "accept-missing",
        env = "ASSAY_ACCEPT_MISSING",
        value_enum,
        value_delimiter = ',',
        value_name = "WALL"
    )]
    pub accept_missing: Vec<Wall>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs a command to its end.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::start(&arguments.log);
    match arguments.command {
        Command::Run(arguments) => work(*arguments).await,
    }
}

async fn work(arguments: RunArgs) -> anyhow::Result<()> {
    let credential = Credential::File(arguments.key_file);
    credential.read().await?;
    let config = Config {
        name: arguments.name,
        class: arguments.class,
        slots: arguments.slots,
        resolvers: arguments.resolvers,
        listen: Some(arguments.listen),
        reconcile_every: Duration::from_secs(arguments.reconcile_sec),
        ..Config::new(arguments.api, credential, arguments.work_dir)
    };
    match arguments.engine {
        EngineKind::Containers => {
            let socket = arguments.engine_socket;
            let folder = arguments.sandbox_bin.unwrap_or_default();
            let connect = move |owner: String| async move {
                let settings = Settings {
                    socket,
                    owner,
                    binaries: Binaries::in_folder(&folder),
                };
                Containers::connect(&settings).await
            };
            serve(config, connect, |_| std::future::ready(Ok(()))).await
        }
        EngineKind::Kubernetes => {
            let settings = arguments.cluster.settings()?;
            let accepted: BTreeSet<Wall> = arguments.accept_missing.into_iter().collect();
            if !accepted.is_empty() {
                tracing::warn!(?accepted, "walls that may be missing");
            }
            let config = Config {
                engine: "kubernetes".to_owned(),
                ..config
            };
            let (of_walls, name) = (settings.clone(), config.name.clone());
            let guard = move |installation: String| {
                let (settings, name, accepted) = (of_walls.clone(), name.clone(), accepted.clone());
                async move { guard::walls(&settings, &installation, &name, &accepted).await }
            };
            let connect = move |owner: String| async move {
                Kubernetes::connect(kubernetes::Settings { owner, ..settings }).await
            };
            serve(config, connect, guard).await
        }
    }
}

async fn serve<E, C, F, G, H>(config: Config, connect: C, guard: G) -> anyhow::Result<()>
where
    E: Engine + 'static,
    C: FnOnce(String) -> F + Send + 'static,
    F: Future<Output = Result<E, assay_engine::Error>> + Send + 'static,
    G: Fn(String) -> H + Send + 'static,
    H: Future<Output = Result<(), assay_engine::Error>> + Send + 'static,
{
    let worker = |stop| worker::run_guarded(config, stop, connect, guard);
    let ended = lifecycle::serve("worker", GRACE, worker).await?;
    Ok(ended.unwrap_or(Ok(()))?)
}

/// For handing leases back once stopping.
const GRACE: Duration = Duration::from_secs(25);
