//! `assay-proxy`: the egress proxy of one sandbox.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use assay_core::{clock::SystemClock, version::BAKED_COMMIT};
use assay_proxy::{
    beacon,
    listen::Addresses,
    run::{self, Start},
    selftest,
};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::Empty;
use tracing_subscriber::EnvFilter;

/// The egress proxy of one sandbox.
#[derive(Debug, Parser)]
#[command(name = "assay-proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The assignment: read once, then unlinked
    #[arg(long, value_name = "FILE", default_value = "/assay/assignment.json")]
    assignment: PathBuf,
    /// The folder for the write-ahead log and the audit
    #[arg(long, value_name = "DIR", default_value = "/assay/state")]
    state: PathBuf,
    /// Seconds to wait after SIGTERM until everything is collected; 0 where nobody collects
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    grace_sec: u64,
    /// What to log, e.g. `info` or `assay_proxy=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Try the threat list from inside of a sandbox; fails when a way out is open
    Selftest {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Serve the beacon of a cluster instead: two ports that show sandboxes which phase the network is in
    Beacon,
    /// Part of the self-test: succeeds as the proxy's user
    #[command(hide = true)]
    BecomeProxyUser,
    /// Part of the self-test: succeeds where user namespaces can be made
    #[command(hide = true)]
    EnterUserNamespace,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => run_proxy(arguments).map(|()| ExitCode::SUCCESS),
        Some(Command::Selftest { json }) => run_selftest(json),
        Some(Command::Beacon) => serve_beacon(&arguments.log).map(|()| ExitCode::SUCCESS),
        Some(Command::BecomeProxyUser) => Ok(ended_well(selftest::process::become_proxy_user())),
        Some(Command::EnterUserNamespace) => Ok(ended_well(selftest::process::enter_user_namespace())),
    }
}

fn run_selftest(json: bool) -> anyhow::Result<ExitCode> {
    let report = selftest::run();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(ended_well(report.holds()))
}

fn serve_beacon(log: &str) -> anyhow::Result<()> {
    log_to_stderr(log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        // cancel-safe: what is taken is closed at once.
        tokio::select! {
            served = beacon::serve() => served.context("serve the beacon"),
            _ = terminate.recv() => Ok(()),
        }
    })
}

fn ended_well(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_proxy(arguments: Arguments) -> anyhow::Result<()> {
    log_to_stderr(&arguments.log)?;
    // The credentials in memory are for nobody else, not even for one with the same user.
    nix::sys::prctl::set_dumpable(false).context("refuse to be dumped")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .context("start the runtime")?;
    let span = tracing::info_span!("sandbox", sandbox.id = Empty, run.id = Empty, fence = Empty);
    // One thread runs every task, so this span lies around all that they log.
    let _inside = span.enter();
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let running = run::start(Start {
        assignment: arguments.assignment,
        state: arguments.state,
        addresses: Addresses::sandbox(),
        grace: Duration::from_secs(arguments.grace_sec),
        commit: BAKED_COMMIT,
        clock: Arc::new(SystemClock),
    })
    .context("start the proxy")?;
    tracing::info!(control = %running.control, serving = running.workload.is_some(), "the proxy runs");
    // cancel-safe: both only wait for a signal.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop();
    running.finished().await;
    Ok(())
}

fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("read --log")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().init();
    }
    Ok(())
}
