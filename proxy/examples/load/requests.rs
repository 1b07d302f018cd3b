//! Closed loop: each connection sends its next request when the answer is there.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::LocalSet;

use crate::{
    quantile,
    target::{self, Target},
    wire::{self, Wire},
};

/// How much.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    /// At the same time
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How long
    #[arg(long)]
    seconds: f64,
    /// At most so many
    #[arg(long, default_value_t = u64::MAX)]
    most: u64,
    /// A new connection for each request
    #[arg(long)]
    fresh: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Result {
    requests: usize,
    seconds: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Connections that failed or broke.
    broken: u64,
    statuses: BTreeMap<u16, u64>,
}

/// What all connections share.
struct Shared {
    target: Target,
    request: Vec<u8>,
    fresh: bool,
    end: Instant,
    left: Cell<u64>,
    broken: Cell<u64>,
    times_ns: RefCell<Vec<u64>>,
    statuses: RefCell<BTreeMap<u16, u64>>,
}

/// Sends requests until the time is over or there were enough.
pub(crate) async fn run(options: Options) -> anyhow::Result<Result> {
    let target = Target::new(options.target)?;
    let begin = Instant::now();
    let shared = Rc::new(Shared {
        request: wire::request(&target)?,
        target,
        fresh: options.fresh,
        end: begin + Duration::from_secs_f64(options.seconds),
        left: Cell::new(options.most),
        broken: Cell::new(0),
        times_ns: RefCell::default(),
        statuses: RefCell::default(),
    });
    let tasks = LocalSet::new();
    for _ in 0..options.connections {
        tasks.spawn_local(drive(Rc::clone(&shared)));
    }
    tasks.await;
    let seconds = begin.elapsed().as_secs_f64();
    let mut times = shared.times_ns.take();
    times.sort_unstable();
    let requests = times.len();
    Ok(Result {
        requests,
        seconds,
        per_second: per(requests, seconds),
        p50_us: micros(quantile(&times, 500)),
        p99_us: micros(quantile(&times, 990)),
        broken: shared.broken.get(),
        statuses: shared.statuses.take(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per(requests: usize, seconds: f64) -> f64 {
    requests as f64 / seconds
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

async fn drive(shared: Rc<Shared>) {
    let mut open = None;
    while Instant::now() < shared.end && shared.take() {
        let begin = Instant::now();
        let wire = match open.take() {
            Some(wire) => Ok(wire),
            None => Wire::connect(&shared.target).await,
        };
        let Ok(mut wire) = wire else {
            shared.broken.set(shared.broken.get() + 1);
            continue;
        };
        let Ok(status) = wire.exchange(&shared.request).await else {
            shared.broken.set(shared.broken.get() + 1);
            continue;
        };
        shared.answered(begin, status);
        if shared.fresh {
            wire.close().await;
        } else {
            open = Some(wire);
        }
    }
}

impl Shared {
    fn take(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn answered(&self, begin: Instant, status: u16) {
        let ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.times_ns.borrow_mut().push(ns);
        *self.statuses.borrow_mut().entry(status).or_default() += 1;
    }
}
