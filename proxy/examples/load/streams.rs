//! Many streams at once: how late each event comes, and whether the bytes are those that the backend sent.

use std::collections::BTreeMap;

use assay_core::digest::Digest;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    now_ns, quantile,
    target::{self, Target},
};

/// How many.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    /// At the same time
    #[arg(long, default_value_t = 200)]
    streams: usize,
    /// Begins the name of each stream, which stands for `STREAM` in the body
    #[arg(long)]
    prefix: String,
}

/// What came of it. Microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Result {
    events: usize,
    failed: usize,
    /// From the backend's write to here.
    delay_p50_us: u64,
    delay_p99_us: u64,
    /// By how much the time between two events grew on the way.
    stretch_p50_us: u64,
    stretch_p99_us: u64,
    /// Streams that told a usage.
    usage: usize,
    /// By the name of each stream.
    hashes: BTreeMap<String, String>,
}

/// One stream that was read to its end.
#[derive(Default)]
struct Read {
    delays_us: Vec<u64>,
    stretches_us: Vec<u64>,
    usage: bool,
    bytes: Vec<u8>,
    line: Vec<u8>,
    last: Option<(u64, u64)>,
}

/// Reads all streams to their end.
pub(crate) async fn run(options: Options) -> anyhow::Result<Result> {
    let target = Target::new(options.target)?;
    let body = target.body()?.unwrap_or_default();
    let mut tasks = JoinSet::new();
    for number in 0..options.streams {
        let name = format!("{}{number}", options.prefix);
        let (target, body) = (target.clone(), body.replace("STREAM", &name));
        tasks.spawn(async move { (name, stream(target, body).await) });
    }
    let (mut reads, mut failed) = (BTreeMap::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            (name, Ok(read)) => drop(reads.insert(name, read)),
            (_, Err(_)) => failed += 1,
        }
    }
    let sorted = |of: fn(&Read) -> &Vec<u64>| {
        let mut all: Vec<u64> = reads.values().flat_map(of).copied().collect();
        all.sort_unstable();
        all
    };
    let (delays, stretches) = (sorted(|read| &read.delays_us), sorted(|read| &read.stretches_us));
    Ok(Result {
        events: delays.len(),
        failed,
        delay_p50_us: quantile(&delays, 500),
        delay_p99_us: quantile(&delays, 990),
        stretch_p50_us: quantile(&stretches, 500),
        stretch_p99_us: quantile(&stretches, 990),
        usage: reads.values().filter(|read| read.usage).count(),
        hashes: reads
            .into_iter()
            .map(|(name, read)| (name, Digest::of(&read.bytes).hex()))
            .collect(),
    })
}

async fn stream(target: Target, body: String) -> anyhow::Result<Read> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(target.connect().await?)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::post(target.path())
        .header("host", target.name())
        .header("authorization", "Bearer placeholder")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let mut answer = sender.send_request(request).await?;
    anyhow::ensure!(answer.status() == 200, "answered with {}", answer.status());
    let mut read = Read::default();
    while let Some(frame) = answer.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.take(&data);
        }
    }
    driver.abort();
    Ok(read)
}

impl Read {
    fn take(&mut self, data: &[u8]) {
        let now = now_ns();
        self.bytes.extend_from_slice(data);
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.event(&line, now);
            }
        }
    }

    fn event(&mut self, line: &[u8], now: u64) {
        self.usage |= memchr::memmem::find(line, b"\"completion_tokens\"").is_some();
        let Some(sent) = sent_at(line) else { return };
        self.delays_us.push(now.saturating_sub(sent) / 1000);
        if let Some((sent_before, before)) = self.last {
            let stretch = (now - before).saturating_sub(sent - sent_before);
            self.stretches_us.push(stretch / 1000);
        }
        self.last = Some((sent, now));
    }
}

/// The time that the backend wrote into an event.
fn sent_at(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, content) = text.split_once("\"content\":")?;
    let digits = content.trim_start().strip_prefix('"')?;
    digits.split(' ').next()?.parse().ok()
}
