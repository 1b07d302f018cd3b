//! The queue: claim, adopt, beat, hand over, close, cancel, count.

pub mod assignment;
pub mod cancel;
pub mod claim;
pub mod close;
pub mod lease;
pub mod pending;

/// Milliseconds for SQL's `float8 * interval '1 ms'`; exact up to centuries.
#[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
pub(super) fn millis(ms: u64) -> f64 {
    ms as f64
}
