//! Requests and tokens in a minute: buckets that fill evenly.

use std::time::{Duration, Instant};

use assay_core::control::proxy::Purse;

/// The rates of one phase.
#[derive(Debug, Default)]
pub struct Rates {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl From<&Purse> for Rates {
    fn from(purse: &Purse) -> Self {
        Self {
            requests: purse
                .requests_per_minute
                .map(|rate| Bucket::full(u64::from(rate))),
            tokens: purse.tokens_per_minute.map(Bucket::full),
        }
    }
}

impl Rates {
    /// How long a request of so many tokens has to wait, without taking anything.
    pub fn wait(&self, now: Instant, tokens: u64) -> Duration {
        let waits = [(&self.requests, 1), (&self.tokens, tokens)];
        let wait =
            |(bucket, wanted): (&Option<Bucket>, u64)| bucket.as_ref().map(|bucket| bucket.wait(now, wanted));
        waits.into_iter().filter_map(wait).max().unwrap_or_default()
    }

    /// Takes what the request needs.
    pub fn take(&mut self, now: Instant, tokens: u64) {
        for (bucket, taken) in [(&mut self.requests, 1), (&mut self.tokens, tokens)] {
            if let Some(bucket) = bucket {
                bucket.take(now, taken);
            }
        }
    }
}

/// Holds a minute's worth. What one request needs more than that it may have when the bucket is full.
#[derive(Debug)]
struct Bucket {
    per_minute: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn full(per_minute: u64) -> Self {
        let per_minute = amount(per_minute);
        Self {
            per_minute,
            level: per_minute,
            at: Instant::now(),
        }
    }

    fn level(&self, now: Instant) -> f64 {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        self.per_minute.min(self.level + minutes * self.per_minute)
    }

    fn wait(&self, now: Instant, wanted: u64) -> Duration {
        let missing = amount(wanted).min(self.per_minute) - self.level(now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let minutes = missing / self.per_minute;
        Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX)
    }

    fn take(&mut self, now: Instant, taken: u64) {
        self.level = self.level(now) - amount(taken);
        self.at = now;
    }
}

/// Counts here are far below 2^52, and the last unit does not matter.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn amount(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_passes_at_once_and_the_rest_evenly() {
        let mut rates = Rates {
            requests: Some(Bucket::full(60)),
            tokens: None,
        };
        let start = Instant::now();
        for _ in 0..60 {
            assert_eq!(rates.wait(start, 1), Duration::ZERO);
            rates.take(start, 1);
        }
        let wait = rates.wait(start, 1);
        assert!((900..=1_001).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(
            rates.wait(start + Duration::from_millis(1_002), 1),
            Duration::ZERO
        );
    }

    #[test]
    fn a_request_above_a_minutes_worth_waits_for_the_full_bucket_and_then_for_what_it_took() {
        let mut rates = Rates {
            requests: None,
            tokens: Some(Bucket::full(1_000)),
        };
        let start = Instant::now();
        assert_eq!(rates.wait(start, 5_000), Duration::ZERO);
        rates.take(start, 5_000);
        let wait = rates.wait(start, 1_000).as_secs();
        assert!((298..=300).contains(&wait), "{wait}");
    }
}
