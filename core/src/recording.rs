//! A recording: model calls with the bodies that went out and came back, one JSON line each.
//!
//! A proxy writes one where the policy consents. It is read as a trajectory, and a later run can be answered from it. A
//! line is written when its call has ended; the number tells the order in which calls began.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{digest::Digest, egress::HostName, money::PicoUsd, phase::EgressPhase, price::ModelSlug};

/// One call of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Counts from 1 in the order of begin.
    pub seq: u64,
    /// When it began, RFC 3339, UTC.
    pub begun: String,
    /// When its answer had ended.
    pub ended: String,
    /// The egress phase: the agent's calls and the verifier's.
    pub phase: EgressPhase,
    /// The step, from 0.
    pub step: u32,
    /// `chat`, `responses`, `messages`, `completions`, `embeddings`, …
    pub api: String,
    /// The model service.
    pub host: HostName,
    /// The model that was asked for.
    pub model: ModelSlug,
    /// Names the request as the workload sent it; two that mean the same have the same.
    pub key: Digest,
    /// The status that the workload got.
    pub status: u16,
    /// The content type of the answer.
    pub content_type: String,
    /// Whether the answer is here as a whole.
    pub extent: Extent,
    /// What it cost, at most.
    pub cost: PicoUsd,
    /// Tokens in, those of caches included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// The body as it was forwarded.
    pub request: Box<RawValue>,
    /// The body as the workload got it; the pieces of a stream joined.
    pub answer: String,
}

/// How much of an answer was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// All of it.
    Whole,
    /// All that came: the service broke it off.
    Cut,
    /// Not all: it was too long to be recorded.
    TooLong,
}

/// The last line of a recording that has no room for more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Full {
    /// The number of the first call that is missing.
    pub full_at: u64,
}

/// A recording that a run is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// The calls of a recording in the order of their begin. Other lines are left out.
pub fn calls(bytes: &[u8]) -> Vec<Call> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let mut calls: Vec<Call> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    calls.sort_by_key(|call| call.seq);
    calls
}

/// No recording is longer, bytes.
pub const MOST_BYTES: u64 = 64 << 20;
