//! The `assay` command: parse, run, exit code.

use std::{io::Write as _, process::ExitCode};

use assay_runtime::{exit, telemetry};
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match assay_cli::args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that was asked for is no error; a closed terminal cannot be told about anything.
            error.print().unwrap_or_default();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let filter = cli
        .global
        .log
        .clone()
        .unwrap_or_else(|| cli.default_log().to_owned());
    let format = telemetry::Format::default();
    telemetry::start(&telemetry::LogArgs { filter, format });
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), exit::OS),
    };
    match runtime.block_on(assay_cli::cmd::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    writeln!(std::io::stderr(), "assay: {message}").unwrap_or_default();
    ExitCode::from(code)
}
