//! The money test: a thousand calls at the same time, aborted at random, against a service that keeps its own bill; and
//! the same with the proxy killed in the middle.
//!
//! What equality means. Every answer has a name, and the service's bill and the proxy's record are compared name by name:
//!
//! * settled: the record says what the service billed, to the pico-dollar;
//! * unresolved with a name (failed or cut by the service, or cut by the proxy's death): the same, once it was asked for;
//! * unresolved without a name (the proxy died between sending and the first byte of the answer): the record holds the
//!   most that it can cost, so that what was billed lies between `cost_min` and `cost_max`.
//!
//! Never, in any class, is more billed than was granted.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "money/process.rs"]
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use assay_core::{
    ledger::{Book, Entry},
    money::PicoUsd,
};
use assay_runtime::router;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::process::{Proxy, Service};

const CALLS: usize = 1_000;

/// What one call asks for, and when it goes away.
struct Call {
    message: &'static str,
    stream: bool,
    /// Bytes of the answer after which the connection is dropped; never when absent.
    abort_after: Option<usize>,
}

impl Call {
    fn random(random: &mut impl FnMut(u64) -> u64) -> Self {
        let message = match random(20) {
            0 => "ASSAY-FAULT-CUT-STREAM",
            1 => "ASSAY-FAULT-HALF-BODY",
            2 => "ASSAY-FAULT-503",
            3 => "ASSAY-FAULT-500-BILLED",
            4..=6 => "ASSAY-TOKENS: 300",
            _ => "hello",
        };
        let abort_after = (random(3) == 0).then(|| usize::try_from(random(900)).unwrap_or(0));
        Self {
            message,
            stream: random(2) == 0,
            abort_after,
        }
    }

    /// Makes the call; true when an answer came to its end.
    async fn make(self, proxy: std::net::SocketAddr) -> bool {
        let body = serde_json::json!({
            "model": process::MODEL, "stream": self.stream, "max_tokens": 400,
            "messages": [{"role": "user", "content": self.message}],
        })
        .to_string();
        let Ok(mut stream) = TcpStream::connect(proxy).await else {
            return false;
        };
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            return false;
        }
        let (mut read, mut buffer) = (0, [0; 4096]);
        loop {
            if self.abort_after.is_some_and(|abort| read >= abort) {
                return false;
            }
            match stream.read(&mut buffer).await {
                Ok(0) => return read > 0,
                Ok(length) => read += length,
                Err(_) => return false,
            }
        }
    }
}

/// Makes all calls at the same time. `done` counts those that have ended.
async fn make_all(proxy: &Proxy, done: &Arc<AtomicUsize>) -> Vec<tokio::task::JoinHandle<bool>> {
    // The same calls every time; which of them meet is up to the machine.
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let calls: Vec<Call> = (0..CALLS).map(|_| Call::random(&mut random)).collect();
    let address = proxy.address();
    let spawn = |call: Call| {
        let done = Arc::clone(done);
        tokio::spawn(async move {
            let ended = call.make(address).await;
            done.fetch_add(1, Ordering::SeqCst);
            ended
        })
    };
    calls.into_iter().map(spawn).collect()
}

/// What the record says of each named answer; `None` for one that is not settled.
fn recorded(entries: &[Entry]) -> BTreeMap<String, Option<PicoUsd>> {
    let mut names = BTreeMap::new();
    let mut costs = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Answering { id, generation, .. } => {
                names.insert(*id, generation.clone());
            }
            Entry::Settle { id, bill, .. } | Entry::Reconcile { id, bill } => {
                costs.insert(*id, bill.cost);
            }
            Entry::Open { .. }
            | Entry::Reserve { .. }
            | Entry::Release { .. }
            | Entry::Unresolved { .. }
            | Entry::Freeze { .. }
            | Entry::Damaged => {}
        }
    }
    names
        .into_iter()
        .map(|(id, name)| (name, costs.get(&id).copied()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_with_aborts_are_recorded_as_they_were_billed() {
    if process::lacks_descriptors() {
        return;
    }
    let service = Service::start("0.2").await;
    let proxy = Proxy::start(&service);
    let done = Arc::new(AtomicUsize::new(0));
    let mut ended = 0;
    for call in make_all(&proxy, &done).await {
        ended += usize::from(call.await.unwrap());
    }
    let ledger = proxy.at_rest().await;
    let billed = service.model.bill().total();
    assert!(ended > CALLS / 4, "{ended} calls came to their end");
    assert!(billed <= ledger.budget, "billed {billed} of {}", ledger.budget);
    assert!(ledger.budget_refusals > 0, "the budget was never met: {ledger:?}");
    assert_eq!(
        (ledger.settled, ledger.unresolved),
        (billed, PicoUsd::ZERO),
        "{ledger:?}"
    );
    let record = recorded(&proxy.log());
    for (name, charge) in service.model.generations() {
        assert_eq!(record.get(&name), Some(&Some(charge.cost)), "{name}");
    }
    println!(
        "billed {billed} of {}, recorded {}: {ended} of {CALLS} calls ended",
        ledger.budget, ledger.settled
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_killed_leaves_a_record_that_is_settled_without_it() {
    if process::lacks_descriptors() {
        return;
    }
    let service = Service::start("5").await;
    let mut proxy = Proxy::start(&service);
    let done = Arc::new(AtomicUsize::new(0));
    let calls = make_all(&proxy, &done).await;
    while done.load(Ordering::SeqCst) < CALLS / 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    proxy.kill();
    for call in calls {
        call.await.unwrap();
    }
    let entries = proxy.log();
    let mut book = Book::replay(&entries);
    assert!(book.under_way() > 0, "the proxy died after its work");
    let closed = book.close();
    let before = book.ledger();
    // The control plane asks for what the proxy cannot ask for any more.
    router::reconcile(std::slice::from_ref(&service.upstream), &mut book).await;
    let ledger = book.ledger();
    let billed = service.model.bill().total();
    assert!(billed <= ledger.budget && ledger.cost_max() <= ledger.budget);
    assert!(
        ledger.cost_min() <= billed && billed <= ledger.cost_max(),
        "{billed}: {ledger:?}"
    );
    assert_eq!(book.pending().count(), 0, "every named answer is told");
    compare(
        &service,
        &entries,
        before.settled,
        ledger.settled,
        ledger.unresolved,
    );
    println!(
        "{} calls were under way at the kill; billed {billed}, recorded {} to {}",
        closed.len(),
        ledger.cost_min(),
        ledger.cost_max()
    );
}

/// Name by name; what is billed and has no name in the record is covered by what is unresolved.
fn compare(service: &Service, entries: &[Entry], settled: PicoUsd, reconciled: PicoUsd, unresolved: PicoUsd) {
    let record = recorded(entries);
    let billed = service.model.generations();
    let sum = |names: BTreeSet<&String>| -> PicoUsd { names.iter().map(|name| billed[*name].cost).sum() };
    let named = |name: &&String| record.contains_key(*name);
    let done = |name: &&String| record.get(*name).is_some_and(Option::is_some);
    for name in billed.keys().filter(done) {
        assert_eq!(record[name], Some(billed[name].cost), "{name}");
    }
    assert_eq!(settled, sum(billed.keys().filter(done).collect()));
    assert_eq!(reconciled, sum(billed.keys().filter(named).collect()));
    assert!(sum(billed.keys().filter(|name| !named(name)).collect()) <= unresolved);
}
