//! PID 1 of a task container: runs phases, streams output, moves files, and kills for good.
//!
//! `serve` is the runner itself; `service` is it in a container beside main, with one command of its own. `holder` and `stage` are this same program in the two roles that need a process of
//! their own: making the user namespace, and becoming the workload's command.
//! `trust-probe` is for people: which clients of an image believe the sandbox's root.

use std::{os::fd::RawFd, process::ExitCode};

mod answer;
mod cgroup;
mod disk;
mod exec;
mod files;
mod http;
mod isolation;
mod kill;
mod process;
mod proxy_link;
mod redirect;
mod serve;
mod service;
mod services;
mod stage;
mod state;
mod sys;
mod trust;
mod user;

const USAGE: &str =
    "usage: runner serve|service --config FILE [--listen ADDRESS]... [--proxy ADDRESS] [--trust FOLDER]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let rest: Vec<String> = arguments.collect();
    match role.as_deref() {
        Some("serve") => end(serve::Options::parse(&rest, "/assay/runner.json").and_then(serve::run)),
        Some("service") => end(serve::Options::parse(&rest, "/assay/service.json").and_then(service::run)),
        Some("holder") => end(isolation::hold().map_err(|error| error.to_string())),
        Some("stage") => stage(&rest),
        Some("trust-probe") => trust_probe(&rest),
        Some("--version") => end(say(&format!(
            "{} {}",
            assay_core::version::VERSION,
            assay_core::version::BAKED_COMMIT
        ))),
        _ => end(Err(USAGE.to_owned())),
    }
}

fn stage(numbers: &[String]) -> ExitCode {
    let numbers: Vec<RawFd> = numbers.iter().filter_map(|text| text.parse().ok()).collect();
    if let [order, status, namespace] = numbers[..] {
        stage::become_command(stage::Inherited {
            order,
            status,
            namespace,
        });
    }
    ExitCode::from(127)
}

/// Whether the clients of this image believe the sandbox's root, tried at a model host.
fn trust_probe(rest: &[String]) -> ExitCode {
    match rest {
        [host] => match trust::probe::run(host) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => end(Err(error.to_string())),
        },
        _ => end(Err("usage: runner trust-probe HOST".to_owned())),
    }
}

fn say(text: &str) -> Result<(), String> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())
}

fn end(result: Result<(), String>) -> ExitCode {
    use std::io::Write as _;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere else to say it.
            drop(writeln!(std::io::stderr(), "runner: {error}"));
            ExitCode::FAILURE
        }
    }
}
