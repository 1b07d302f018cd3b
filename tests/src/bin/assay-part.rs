//! The two servers of an installation and its command under one roof, so that a suite can start, kill and restart them as processes.

use std::process::ExitCode;

use clap::Parser as _;

#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

/// Each is the command line of its own program.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// `assay-api`
    Api(Box<assay_api::cmd::Arguments>),
    /// `assay-screener`
    Screener(Box<assay_screener::cmd::Arguments>),
    /// `assay`
    Assay(Box<assay_cli::args::Cli>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().part {
        Part::Api(arguments) => assay_api::cmd::run(*arguments).await,
        Part::Screener(arguments) => assay_screener::cmd::run(*arguments).await,
        Part::Assay(cli) => return command(*cli).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// With the exit codes that the command has.
async fn command(cli: assay_cli::args::Cli) -> ExitCode {
    match assay_cli::cmd::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("assay: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
