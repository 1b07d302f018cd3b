//! Carries the output of a phase to the API while the phase runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use assay_core::{
    control::runner::Stream,
    id::{AttemptId, Fence},
    phase::Phase,
    wire::{channel::Channel, worker::Progress},
};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Chunk, Gap, Retention, StreamBuffer};
use crate::platform::{Error, OutputPlace, Platform};

/// Takes the output of one phase. Dropping it stops the shipping and forgets what was not stored.
#[derive(Debug)]
pub struct Shipper {
    shared: Arc<Shared>,
    stdout: Option<AbortOnDropHandle<Result<(), Error>>>,
    stderr: Option<AbortOnDropHandle<Result<(), Error>>>,
}

#[derive(Debug)]
struct Shared {
    stdout: Lane,
    stderr: Lane,
    finished: CancellationToken,
}

#[derive(Debug)]
struct Lane {
    buffer: Mutex<StreamBuffer>,
    filled: Notify,
}

impl Lane {
    fn new(stored: u64) -> Self {
        Self {
            buffer: Mutex::new(StreamBuffer::new(Retention::default(), stored)),
            filled: Notify::new(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut StreamBuffer) -> T) -> T {
        act(&mut self.buffer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What happened to a phase's output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Bytes that are not kept, by stream.
    pub gaps: Vec<(Stream, Gap)>,
    /// Output that could not be stored in time.
    pub unstored: bool,
}

impl Shipper {
    /// Starts shipping after what is stored already.
    pub fn start(
        platform: &Platform,
        attempt: AttemptId,
        fence: Fence,
        (step, phase): (u32, Phase),
        stored: &Progress,
    ) -> Self {
        let known = |stream| {
            let key = Channel::Printed(phase, stream).key(step);
            stored.output.get(&key).copied().unwrap_or(0)
        };
        let shared = Arc::new(Shared {
            stdout: Lane::new(known(Stream::Stdout)),
            stderr: Lane::new(known(Stream::Stderr)),
            finished: CancellationToken::new(),
        });
        let lane = |stream| {
            let place = OutputPlace {
                attempt,
                fence,
                step,
                channel: Channel::Printed(phase, stream),
            };
            let shared = Arc::clone(&shared);
            AbortOnDropHandle::new(tokio::spawn(ship(platform.clone(), shared, stream, place)))
        };
        Self {
            stdout: Some(lane(Stream::Stdout)),
            stderr: Some(lane(Stream::Stderr)),
            shared,
        }
    }

    /// Takes bytes that stand at `offset` of a stream of the phase. Never waits.
    pub fn push(&self, stream: Stream, offset: u64, bytes: Bytes) {
        let lane = self.shared.lane(stream);
        lane.with(|buffer| buffer.push(offset, bytes));
        lane.filled.notify_one();
    }

    /// Says that the bytes before `to` are lost.
    pub fn skip_to(&self, stream: Stream, to: u64) {
        self.shared.lane(stream).with(|buffer| buffer.skip_to(to));
    }

    /// Where a stream of the phase ends so far.
    pub fn end(&self, stream: Stream) -> u64 {
        self.shared.lane(stream).with(|buffer| buffer.end())
    }

    /// Stores what is left, for at most `patience`.
    pub async fn finish(mut self, patience: Duration) -> Result<Shipped, Error> {
        for lane in [&self.shared.stdout, &self.shared.stderr] {
            lane.with(StreamBuffer::finish);
        }
        self.shared.finished.cancel();
        let mut shipped = Shipped::default();
        let end = tokio::time::Instant::now() + patience;
        for handle in [self.stdout.take(), self.stderr.take()].into_iter().flatten() {
            match tokio::time::timeout_at(end, handle).await {
                Ok(Ok(Err(Error::Lost))) => return Err(Error::Lost),
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(_)) | Err(_)) | Err(_) => shipped.unstored = true,
            }
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let gaps = self.shared.lane(stream).with(StreamBuffer::take_gaps);
            shipped.gaps.extend(gaps.into_iter().map(|gap| (stream, gap)));
        }
        Ok(shipped)
    }
}

impl Shared {
    fn lane(&self, stream: Stream) -> &Lane {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

async fn ship(
    platform: Platform,
    shared: Arc<Shared>,
    stream: Stream,
    place: OutputPlace,
) -> Result<(), Error> {
    let lane = shared.lane(stream);
    loop {
        let finished = shared.finished.is_cancelled();
        while let Some(chunk) = lane.with(|buffer| buffer.take(finished)) {
            store(&platform, &place, &chunk).await?;
        }
        if finished {
            return Ok(());
        }
        // cancel-safe: nothing is taken from the buffer while waiting.
        tokio::select! {
            () = shared.finished.cancelled() => continue,
            () = lane.filled.notified() => {}
        }
        // A chunk is sent when it is full or a second old, so that many small prints become few calls.
        tokio::select! {
            () = shared.finished.cancelled() => continue,
            () = tokio::time::sleep(LONGEST_WAIT) => {}
        }
        if let Some(chunk) = lane.with(|buffer| buffer.take(true)) {
            store(&platform, &place, &chunk).await?;
            lane.filled.notify_one();
        }
    }
}

/// Keeps trying: the buffer is bounded, so a slow API costs nothing but a later view.
pub(super) async fn store(platform: &Platform, place: &OutputPlace, chunk: &Chunk) -> Result<(), Error> {
    loop {
        match platform.output(place, chunk.offset, &chunk.bytes).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, stream = %place.channel, "output cannot be stored for now");
            }
            result => return result,
        }
    }
}

const LONGEST_WAIT: Duration = Duration::from_millis(800);
