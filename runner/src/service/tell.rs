//! Tells how the service is to whoever asks on the sandbox's loopback, and what it printed to the first who wants all of
//! it. That is main's runner: it asks before there is an agent, and an agent is not to read what a service prints.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use assay_core::control::service::{ASK_ALL, ASK_STATE, ServiceNews, ServiceState};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{
    exec::ring::{Piece, Ring},
    services::KEPT,
};

/// Who has not said what it wants by then is sent away.
const QUESTION: Duration = Duration::from_secs(5);
/// Connections at a time: the workload cannot use up our descriptors.
const PLACES: usize = 32;
const PIECE: usize = 32 << 10;

/// What there is to tell.
#[derive(Debug)]
pub(super) struct Told {
    state: Mutex<ServiceState>,
    output: Mutex<Ring>,
    changed: watch::Sender<()>,
    taken: AtomicBool,
}

impl Told {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(ServiceState::Waiting {
                reason: "waits for the proxy".to_owned(),
            }),
            output: Mutex::new(Ring::of(KEPT)),
            changed: watch::Sender::new(()),
            taken: AtomicBool::new(false),
        }
    }

    pub(super) fn set(&self, state: ServiceState) {
        *lock(&self.state) = state;
        self.changed.send_replace(());
    }

    pub(super) fn print(&self, bytes: &[u8]) {
        lock(&self.output).push(bytes);
        self.changed.send_replace(());
    }

    /// The end of what was printed.
    pub(super) fn tail(&self, most: usize) -> Vec<u8> {
        lock(&self.output).tail(most)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers for ever.
pub(super) async fn answer(listener: TcpListener, told: Arc<Told>) {
    let places = Arc::new(Semaphore::new(PLACES));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors for a moment.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                converse(stream, &told).await;
                drop(place);
            });
        }
    }
}

async fn converse(mut stream: TcpStream, told: &Told) {
    let Ok(Some(wanted)) = timeout(QUESTION, question(&mut stream)).await else {
        return;
    };
    let all = wanted == ASK_ALL;
    if (!all && wanted != ASK_STATE) || (all && told.taken.swap(true, Ordering::Relaxed)) {
        return;
    }
    let (mut from, mut to) = stream.into_split();
    let mut silent = [0; 1];
    tokio::select! {
        () = news(&mut to, told, all) => {}
        // Nothing more is asked: this is the other side's end.
        _ = from.read(&mut silent) => {}
    }
}

async fn question(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while line.len() < 16 {
        match stream.read_u8().await.ok()? {
            b'\n' => return String::from_utf8(line).ok(),
            byte => line.push(byte),
        }
    }
    None
}

/// Each change, until nobody reads any more.
async fn news(to: &mut OwnedWriteHalf, told: &Told, all: bool) {
    let mut changes = told.changed.subscribe();
    let (mut last, mut offset) = (None, 0);
    loop {
        changes.borrow_and_update();
        let state = lock(&told.state).clone();
        // What was printed comes before what became of it.
        while all && let Some(text) = piece(told, &mut offset) {
            if say(to, &ServiceNews::Output(text)).await.is_err() {
                return;
            }
        }
        if last.as_ref() != Some(&state) {
            if say(to, &ServiceNews::State(state.clone())).await.is_err() {
                return;
            }
            last = Some(state);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn piece(told: &Told, offset: &mut u64) -> Option<String> {
    let output = lock(&told.output);
    if let Piece::Lost(to) = output.read(*offset, PIECE) {
        *offset = to;
    }
    match output.read(*offset, PIECE) {
        Piece::Bytes(bytes) => {
            *offset += bytes.len() as u64;
            Some(STANDARD.encode(bytes))
        }
        Piece::Lost(_) | Piece::Nothing => None,
    }
}

async fn say(to: &mut OwnedWriteHalf, news: &ServiceNews) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(news)?;
    line.push(b'\n');
    to.write_all(&line).await
}
