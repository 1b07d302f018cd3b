//! `assay-builder`: the parts of a build's pod that are ours.
//!
//! `fetch` and `push` hold credentials and run nothing of anybody else. `run` holds none and watches over a builder that
//! runs what a Dockerfile says. Each leaves its last word as the container's termination message.

mod buildah;
mod cgroup;
mod failure;
mod fetch;
mod kaniko;
mod layers;
mod loopback;
mod proxy;
mod push;
mod run;
mod steps;
mod tail;

use std::{fs, io::Write as _, path::Path, process::ExitCode};

use assay_core::control::build::Verdict;

const USAGE: &str = "\
What surrounds an image builder in its pod.

assay-builder fetch                 brings what /assay/order/order.json names
assay-builder run PLAN              lets the builder work; PLAN is JSON
assay-builder push ORDER            checks the result and puts it into the registry; ORDER is JSON";

/// Where kubelet looks for a container's last word.
const LAST_WORD: &str = "/dev/termination-log";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let verdict = match words.as_slice() {
        ["fetch"] => fetch::all(),
        ["run", plan] => run::watch(plan),
        ["push", order] => push::image(order),
        ["steps", plan] => return steps::all(plan),
        ["-h" | "--help"] => {
            writeln!(std::io::stdout(), "{USAGE}").ok();
            return ExitCode::SUCCESS;
        }
        _ => {
            writeln!(std::io::stderr(), "{USAGE}").ok();
            return ExitCode::from(64);
        }
    };
    leave(&verdict)
}

/// Says how it ended, for people and for whoever watches the pod.
fn leave(verdict: &Verdict) -> ExitCode {
    if let Verdict::Platform { message } = verdict {
        writeln!(std::io::stdout(), "assay-builder: {message}").ok();
    }
    let text = serde_json::to_string(verdict).unwrap_or_default();
    // Where the file cannot be written the exit code alone speaks.
    if Path::new(LAST_WORD).exists() {
        fs::write(LAST_WORD, text).ok();
    } else {
        writeln!(std::io::stdout(), "{text}").ok();
    }
    if verdict.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A platform's fault in its words.
fn platform(message: &dyn std::fmt::Display) -> Verdict {
    Verdict::Platform {
        message: message.to_string(),
    }
}

/// A runtime for a few exchanges.
fn block_on<T>(work: impl Future<Output = Result<T, Verdict>>) -> Result<T, Verdict> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(|error| platform(&error))?;
    runtime.block_on(work)
}
