//! What keeps a flood of decisions out of the audit.

use std::time::Instant;

/// Lets a burst through, then a trickle.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u32,
    refilled: Option<Instant>,
}

impl Bucket {
    /// With its whole burst.
    pub(super) fn full() -> Self {
        Self {
            tokens: BURST,
            refilled: None,
        }
    }

    /// May one more line be written now?
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = now.duration_since(*self.refilled.get_or_insert(now));
        let fresh = u32::try_from(since.as_millis() / TRICKLE_MS).unwrap_or(u32::MAX);
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(BURST);
            self.refilled = Some(now);
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }
}

const BURST: u32 = 500;
const TRICKLE_MS: u128 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_a_burst_comes_a_trickle() {
        let start = Instant::now();
        let mut bucket = Bucket::full();
        let told = (0..BURST + 7).filter(|_| bucket.take(start)).count();
        assert_eq!(told, usize::try_from(BURST).unwrap());
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 10);
    }
}
