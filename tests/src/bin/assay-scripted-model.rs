//! Serves the scripted model for `make demo`: listens, writes the file that `assay up --upstreams` reads, and stays.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use assay_core::upstream::Dialect;
use assay_tests::model::{Model, Offer, Script};
use clap::Parser as _;

/// A scripted model service over TLS. No model answers: the words come from a file.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Where to listen, e.g. the address of the container engine's bridge; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The address that callers are told, where it is another one than it listens on
    #[arg(long)]
    advertise: Option<std::net::IpAddr>,
    /// The name that agents call it by
    #[arg(long, default_value = "models.assay-demo.example")]
    host: String,
    /// The model that it serves
    #[arg(long, default_value = "assay-demo/scripted-1")]
    model: String,
    /// `open-router` tells costs, `open-ai` does not
    #[arg(long, value_enum, default_value = "open-router")]
    dialect: DialectName,
    /// Questions and answers (TOML)
    #[arg(long)]
    script: PathBuf,
    /// Where to write the model service, its price and its key for `assay up --upstreams`
    #[arg(long)]
    upstreams: PathBuf,
    /// Milliseconds between the pieces of a stream
    #[arg(long, default_value_t = 5)]
    pace_ms: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DialectName {
    OpenRouter,
    OpenAi,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Runtime::new()?.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let script = std::fs::read_to_string(&args.script).with_context(|| args.script.display().to_string())?;
    let script: Script = toml::from_str(&script).with_context(|| args.script.display().to_string())?;
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let key = format!("scripted-{}", assay_core::digest::hex(&random));
    let dialect = match args.dialect {
        DialectName::OpenRouter => Dialect::OpenRouter,
        DialectName::OpenAi => Dialect::OpenAi,
    };
    let offer = Offer {
        host: args.host,
        model: args.model,
        dialect,
        key,
    };
    let mut settings = offer.settings(args.listen, script)?;
    settings.pace = Duration::from_millis(args.pace_ms);
    let model = Model::start(settings).await?;
    let reached = args.advertise.unwrap_or(model.address.ip());
    offer
        .catalogue(&model, SocketAddr::new(reached, model.address.port()))?
        .store(&args.upstreams)?;
    // One line on standard output tells a script that it can go on.
    println!("scripted model at {} as {}", model.address, offer.host);
    model.wait().await
}
