//! `assay-init-iptables`: the command line.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use assay_init_iptables::{
    exit::{Failure, TABLE},
    hold::{Signals, drop_capabilities},
    install, run,
};
use serde_json::json;

/// What was asked for.
enum Command {
    Help,
    Establish {
        config: PathBuf,
    },
    Check {
        expected: Option<String>,
        rules_only: bool,
    },
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where even this cannot be written the exit code still says it.
            writeln!(io::stderr(), "assay-init-iptables: {failure}").ok();
            ExitCode::from(&failure)
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Help => print(&format!("{USAGE}\n\nExit codes:\n{TABLE}")),
        Command::Establish { config } => {
            let config = run::read_config(&config)?;
            install::all(&config.install)?;
            let report = run::establish(config.backend)?;
            if !config.hold {
                return print(&json!(report).to_string());
            }
            let signals = Signals::block()?;
            drop_capabilities()?;
            print(&json!(report).to_string())?;
            signals.wait()
        }
        Command::Check { expected, rules_only } if rules_only => {
            let digest = run::check_rules(expected.as_deref())?;
            print(&json!({ "ruleset": digest }).to_string())
        }
        Command::Check { expected, .. } => print(&json!(run::check(expected.as_deref())?).to_string()),
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, Failure> {
    let mut arguments = arguments.peekable();
    let checking = arguments.next_if(|word| word == "check").is_some();
    let (mut config, mut expected, mut rules_only) = (PathBuf::from("/assay/init.json"), None, false);
    while let Some(word) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| Failure::Usage(format!("{word} needs a value\n{USAGE}")))
        };
        match (word.as_str(), checking) {
            ("-h" | "--help", _) => return Ok(Command::Help),
            ("--config", false) => config = value()?.into(),
            ("--expect", true) => expected = Some(value()?),
            ("--rules-only", true) => rules_only = true,
            _ => return Err(Failure::Usage(format!("unknown argument {word}\n{USAGE}"))),
        }
    }
    Ok(if checking {
        Command::Check { expected, rules_only }
    } else {
        Command::Establish { config }
    })
}

fn print(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(Failure::Report)
}

const USAGE: &str = "\
Writes and proves the packet rules of the network namespace that it runs in.

assay-init-iptables [--config FILE]                        FILE is /assay/init.json unless told
assay-init-iptables check [--expect DIGEST] [--rules-only] proves the rules that are there, changing none;
                                                           with --rules-only without connections (a proxy is running)";
