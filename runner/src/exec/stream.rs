//! An execution's answer: events as lines of JSON, from any offset, at any time, as often as asked.

use std::{io, sync::Arc, time::Duration};

use assay_core::control::runner::{Event, Stream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Execution, ring::Piece};

/// Most bytes of one output event.
const PIECE: usize = 32 * 1024;
/// An empty line tells a reader that the connection lives when there is nothing to tell.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a reader stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// In standard output.
    pub(crate) stdout: u64,
    /// In standard error.
    pub(crate) stderr: u64,
}

/// Sends events until the end was sent or nobody reads. A slow reader gets gaps; it never stops the workload.
pub(crate) fn follow(execution: &Arc<Execution>, offsets: Offsets) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(2);
    let changes = execution.changed.subscribe();
    tokio::spawn(send_events(Arc::clone(execution), offsets, changes, sender));
    receiver
}

async fn send_events(
    execution: Arc<Execution>,
    mut offsets: Offsets,
    mut changes: watch::Receiver<()>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut told_start = false;
    loop {
        changes.borrow_and_update();
        // Seen before the output is read: once it has ended nothing is added, so then nothing can be missed.
        let (pid, end) = {
            let state = execution.lock();
            (state.pid, state.end.clone())
        };
        let mut lines = Vec::new();
        if let Some(pid) = pid.filter(|_| !told_start) {
            told_start = true;
            put(&mut lines, &Event::Started { pid });
        }
        let more = read_outputs(&execution, &mut offsets, &mut lines);
        let last = end.filter(|_| !more);
        let ended = last.is_some();
        if let Some(end) = last {
            put(&mut lines, &Event::End(end));
        }
        if !lines.is_empty() && sender.send(Ok(Bytes::from(lines))).await.is_err() {
            return;
        }
        if ended {
            return;
        }
        if !more && !wait(&mut changes, &sender).await {
            return;
        }
    }
}

/// Waits for a change; false when nobody reads any more.
async fn wait(changes: &mut watch::Receiver<()>, sender: &mpsc::Sender<io::Result<Bytes>>) -> bool {
    tokio::select! {
        news = timeout(SILENCE, changes.changed()) => match news {
            Ok(news) => news.is_ok(),
            Err(_) => sender.send(Ok(Bytes::from_static(b"\n"))).await.is_ok(),
        },
        () = sender.closed() => false,
    }
}

/// One piece of each stream; true when there may be more.
fn read_outputs(execution: &Execution, offsets: &mut Offsets, lines: &mut Vec<u8>) -> bool {
    let mut more = false;
    for (stream, offset) in [
        (Stream::Stdout, &mut offsets.stdout),
        (Stream::Stderr, &mut offsets.stderr),
    ] {
        match execution.read(stream, *offset, PIECE) {
            Piece::Nothing => continue,
            Piece::Lost(to) => {
                let from = *offset;
                put(lines, &Event::Gap { stream, from, to });
                *offset = to;
            }
            Piece::Bytes(bytes) => {
                let event = Event::Output {
                    stream,
                    offset: *offset,
                    data: STANDARD.encode(&bytes),
                };
                put(lines, &event);
                *offset += bytes.len() as u64;
            }
        }
        more = true;
    }
    more
}

fn put(lines: &mut Vec<u8>, event: &Event) {
    // Writing into memory what serialises by construction.
    if serde_json::to_writer(&mut *lines, event).is_ok() {
        lines.push(b'\n');
    }
}
