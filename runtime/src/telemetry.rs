//! Logs through `tracing`: text on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

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
    let text = match args.format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let started = if text {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        tracing_subscriber::registry()
            .with(filter(&args.filter))
            .with(lines.with_target(false))
            .try_init()
    } else {
        json_lines(&args.filter, std::io::stderr).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// What writes one JSON object a line, each with the spans that it lies in.
pub fn json_lines<W>(filter_text: &str, writer: W) -> impl tracing::Subscriber + Send + Sync + 'static
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).json();
    tracing_subscriber::registry()
        .with(filter(filter_text))
        .with(lines)
}

fn filter(text: &str) -> EnvFilter {
    EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new("info"))
}
