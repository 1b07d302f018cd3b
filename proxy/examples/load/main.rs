//! Load for `make bench-proxy`: a TLS backend that answers like a model service, and clients that drive a proxy in front
//! of it. Each command prints one JSON line. TLS 1.3 with X25519 and no resumption, so that every peer does the same work.

use std::{io::Write as _, path::PathBuf};

use clap::{Parser, Subcommand};
use serde::Serialize;

mod backend;
mod certificates;
mod hold;
mod requests;
mod streams;
mod target;
mod wire;

/// Load for the proxy's benchmark.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a root and a certificate for these names
    Certify {
        /// Gets `root.pem`, `server.pem` (chain and key) and their parts
        folder: PathBuf,
        /// Names and addresses
        names: Vec<String>,
    },
    /// Answer requests, until killed
    Backend(backend::Options),
    /// Send requests one after the other on each of some connections
    Requests(requests::Options),
    /// Read streams of events at the same time
    Streams(streams::Options),
    /// Hold connections open until the standard input ends
    Hold(hold::Options),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Certify { folder, names } => certificates::make(&folder, &names),
            Command::Backend(options) => backend::serve(options).await,
            Command::Requests(options) => tell(&requests::run(options).await?),
            Command::Streams(options) => tell(&streams::run(options).await?),
            Command::Hold(options) => hold::run(options).await,
        }
    })
}

/// One line of JSON.
fn tell(result: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(result)?)?;
    Ok(out.flush()?)
}

/// Nanoseconds of the machine's monotonic clock, which client and backend share.
fn now_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |time| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec())
    })
}

/// The value below which this share of a sorted list lies; 0 of an empty one.
fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let at = sorted.len() * per_mille / 1000;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}
