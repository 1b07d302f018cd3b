//! Serves the scripted model for `make demo`: listens, writes the file that `assay up --upstreams` reads, and stays.

use std::{
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use assay_core::{
    price::PriceTable,
    upstream::{Dialect, Secret, Upstream},
};
use assay_tests::model::{Model, Script, Settings};
use clap::Parser as _;
use serde::Serialize;

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

/// The file of `assay up --upstreams`.
#[derive(Serialize)]
struct Catalogue {
    prices: PriceTable,
    upstreams: Vec<Upstream>,
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
    let prices = prices(&args.model)?;
    let dialect = match args.dialect {
        DialectName::OpenRouter => Dialect::OpenRouter,
        DialectName::OpenAi => Dialect::OpenAi,
    };
    let model = Model::start(Settings {
        listen: args.listen,
        names: vec![args.host.clone()],
        dialect,
        key: key.clone(),
        prices: prices.clone(),
        script,
        pace: Duration::from_millis(args.pace_ms),
    })
    .await?;
    let upstream = Upstream {
        host: args.host.parse()?,
        base_path: "/v1".to_owned(),
        dialect,
        models: [args.model.parse()?].into(),
        credential: Secret::new(key),
        address: Some(SocketAddr::new(
            args.advertise.unwrap_or(model.address.ip()),
            model.address.port(),
        )),
        ca_pem: Some(model.root_pem.clone()),
    };
    let catalogue = Catalogue {
        prices,
        upstreams: vec![upstream],
    };
    write(&args.upstreams, &toml::to_string(&catalogue)?)?;
    // One line on standard output tells a script that it can go on.
    println!("scripted model at {} as {}", model.address, args.host);
    model.wait().await
}

/// Prices like those of a small commercial model.
fn prices(model: &str) -> anyhow::Result<PriceTable> {
    let text = format!(
        "version = \"scripted-1\"\n[models.\"{model}\"]\ninput = \"0.000001\"\noutput = \"0.000004\"\n\
         context_tokens = 128000\nmax_output_tokens = 16384\n"
    );
    Ok(toml::from_str(&text)?)
}

/// The file carries the key: its owner alone may read it, and nobody meets half of it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let staged = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&staged);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| staged.display().to_string())?;
    std::fs::rename(&staged, path).with_context(|| path.display().to_string())
}
