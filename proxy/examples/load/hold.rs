//! Connections that have each had one request answered and are then idle, so that what one costs in memory can be read.

use std::io::{Read as _, Write as _};

use crate::{
    target::{self, Target},
    wire::{self, Wire},
};

/// How many.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    #[arg(long)]
    connections: usize,
}

/// Opens them, prints a line, and closes them when the standard input ends.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let target = Target::new(options.target)?;
    let request = wire::request(&target)?;
    let mut held = Vec::new();
    for _ in 0..options.connections {
        let mut wire = Wire::connect(&target).await?;
        let status = wire.exchange(&request).await?;
        anyhow::ensure!(status == 200, "answered with {status}");
        held.push(wire);
    }
    writeln!(std::io::stdout(), "{}", held.len())?;
    // Blocks on purpose: idle connections need nothing.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
