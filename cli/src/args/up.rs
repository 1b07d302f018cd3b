//! Options of `up` and `down`.

use std::path::PathBuf;

use clap::Args;

/// `up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Return once everything is ready and keep it running
    #[arg(long, short)]
    pub detach: bool,
    /// First port to try for the API
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// Runs at the same time; as many again may wait for their images meanwhile
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: u32,
    /// Which runs the screener takes
    #[arg(long, default_value = "1")]
    pub class: String,
    /// Model services, their keys and prices (TOML)
    #[arg(long, env = "ASSAY_UPSTREAMS", hide_env_values = true, value_name = "FILE")]
    pub upstreams: Option<PathBuf>,
    /// Folder with assay-runner, assay-proxy and assay-init-iptables; beside this program by default
    #[arg(long, env = "ASSAY_SANDBOX_BIN", hide_env_values = true, value_name = "DIR")]
    pub sandbox_bin: Option<PathBuf>,
    /// Socket of Docker or Podman; the first that answers by default
    #[arg(long, env = "DOCKER_HOST", hide_env_values = true, value_name = "URL")]
    pub docker_host: Option<String>,
    /// Resolvers that sandboxes' proxies ask; those of this machine by default
    #[arg(
        long = "resolver",
        env = "ASSAY_RESOLVERS",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub resolvers: Vec<String>,
    /// A PostgreSQL instead of the embedded one
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Folder with PostgreSQL's programs, where PATH and /usr/lib/postgresql have none
    #[arg(long, env = "ASSAY_POSTGRES_BIN", hide_env_values = true, value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// An object store instead of the embedded one.
    #[command(flatten)]
    pub s3: S3Args,
    /// Set by `--detach` for the process it leaves behind
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// `objects`.
#[derive(Debug, Clone, Args)]
pub struct ObjectsArgs {
    /// The folder; a bucket is a folder in it
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS:PORT")]
    pub listen: std::net::SocketAddr,
    /// Access key
    #[arg(long, env = "S3_ACCESS_KEY", hide_env_values = true, value_name = "KEY")]
    pub access_key: String,
    /// Secret key
    #[arg(long, env = "S3_SECRET_KEY", hide_env_values = true, value_name = "KEY")]
    pub secret_key: String,
    /// A bucket that is made at the start
    #[arg(long, env = "S3_BUCKET", hide_env_values = true, default_value = "assay")]
    pub bucket: String,
}

/// An object store instead of the embedded one.
#[derive(Debug, Clone, Args)]
#[group(id = "s3-store")]
#[expect(clippy::struct_field_names, reason = "the names are the options")]
pub struct S3Args {
    /// Address of an S3 service instead of the embedded one
    #[arg(long, env = "S3_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// Its bucket
    #[arg(
        long,
        env = "S3_BUCKET",
        hide_env_values = true,
        default_value = "assay",
        value_name = "NAME"
    )]
    pub s3_bucket: String,
    /// Its region
    #[arg(
        long,
        env = "S3_REGION",
        hide_env_values = true,
        default_value = "us-east-1",
        value_name = "NAME"
    )]
    pub s3_region: String,
    /// Its access key
    #[arg(long, env = "S3_ACCESS_KEY", hide_env_values = true, value_name = "KEY")]
    pub s3_access_key: Option<String>,
    /// Its secret key
    #[arg(long, env = "S3_SECRET_KEY", hide_env_values = true, value_name = "KEY")]
    pub s3_secret_key: Option<String>,
}

/// `down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Remove its data too: database, objects, profile, sandboxes
    #[arg(long)]
    pub purge: bool,
}
