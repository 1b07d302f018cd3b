//! What query strings may say.

use assay_core::id::Fence;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

/// Which runs.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Runs {
    /// Those of this evaluation.
    #[serde(default)]
    pub evaluation: Option<Uuid>,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<Uuid>,
    /// Rows per page, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
}

/// Which events.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Events {
    /// Those after this cursor.
    #[serde(default)]
    pub after: i64,
    /// The same, under the name that listings use.
    #[serde(default)]
    pub cursor: Option<i64>,
    /// Rows per page, 1 to 500.
    #[serde(default)]
    pub limit: Option<u16>,
    /// How long to wait for something new, milliseconds, at most 25,000; an ended attempt answers at once.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Which streams.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Streams {
    /// Wait until all streams together have more bytes than this.
    #[serde(default)]
    pub beyond: u64,
    /// How long to wait for something new, milliseconds, at most 25,000; an ended attempt answers at once.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Which piece of which stream.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Piece {
    /// The step, from 0.
    #[serde(default)]
    pub step: u32,
    /// The phase, or `proxy` or `verifier_proxy`.
    pub phase: String,
    /// `stdout` or `stderr`; of a proxy `audit` or `ledger`.
    pub stream: String,
    /// The first byte wanted.
    #[serde(default)]
    pub offset: u64,
    /// How long to wait for something new, milliseconds, at most 25,000; an ended attempt answers at once.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Which chunk of which stream.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Chunk {
    /// The fence of the lease.
    #[param(inline)]
    pub fence: Fence,
    /// The step, from 0.
    pub step: u32,
    /// The phase, or `proxy` or `verifier_proxy`.
    pub phase: String,
    /// `stdout` or `stderr`; of a proxy `audit` or `ledger`.
    pub stream: String,
    /// The chunk's first byte's place in the stream.
    pub offset: u64,
}

/// Who asks.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Holder {
    /// The fence of the lease.
    #[param(inline)]
    pub fence: Fence,
}
