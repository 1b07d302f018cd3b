//! Logs through `tracing`: text on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Arguments of every program that logs.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What is logged, e.g. `info` or `info,assay_api=debug`.
    #[arg(long = "log", env = "ASSAY_LOG", default_value = "info", global = true)]
    pub filter: String,
    /// How logs are written.
    #[arg(
        long = "log-format",
        env = "ASSAY_LOG_FORMAT",
        value_enum,
        default_value_t,
        global = true
    )]
    pub format: Format,
}

/// Starts logging to standard error. A second call changes nothing. A filter that cannot be read means `info`.
pub fn start(args: &LogArgs) {
    let filter = EnvFilter::try_new(&args.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let text = match args.format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if text {
        registry.with(lines.with_target(false)).try_init()
    } else {
        registry.with(lines.json()).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
