//! Which failures of a model service are tried again, and when.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

/// Tries of one request, the first included.
pub const MOST_TRIES: u32 = 4;

/// How long to wait before the next try; `None` when there shall be none. `tries` are those made.
pub fn wait(tries: u32, told: Option<Duration>) -> Option<Duration> {
    if tries >= MOST_TRIES || told.is_some_and(|told| told > LONGEST_TOLD) {
        return None;
    }
    let own = FIRST * 2_u32.saturating_pow(tries.saturating_sub(1));
    Some(told.unwrap_or(own).max(own) + jitter(own))
}

/// Is the status one that may pass? Rate limits, overload, and gateways that found nobody.
pub fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502..=504 | 520..=524 | 529)
}

/// The wait that the service asks for, in seconds; a date counts as none.
pub fn told(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Up to a quarter more, so that sandboxes that failed together do not come back together.
fn jitter(wait: Duration) -> Duration {
    let mut random = [0];
    // Without random bytes there is no jitter, and nothing worse.
    if getrandom::fill(&mut random).is_err() {
        return Duration::ZERO;
    }
    wait.mul_f64(f64::from(random[0]) / 1024.0)
}

const FIRST: Duration = Duration::from_millis(250);
/// A service that wants a longer pause is told to the workload instead.
const LONGEST_TOLD: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_tries_end() {
        let waits: Vec<_> = (1..=MOST_TRIES).map(|tries| wait(tries, None)).collect();
        for (at, least) in [250, 500, 1_000].into_iter().enumerate() {
            let wait = waits[at].unwrap();
            assert!((least..=least * 5 / 4).contains(&wait.as_millis()), "{wait:?}");
        }
        assert_eq!(waits[3], None);
    }

    #[test]
    fn the_service_may_ask_for_more_but_not_for_ever() {
        let wait = |seconds| wait(1, Some(Duration::from_secs(seconds)));
        assert!(wait(7).unwrap() >= Duration::from_secs(7));
        assert!(wait(0).unwrap() >= FIRST);
        assert_eq!(wait(61), None);
    }

    #[test]
    fn only_seconds_are_understood() {
        let told = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            told(&headers)
        };
        assert_eq!(told("3"), Some(Duration::from_secs(3)));
        assert_eq!((told("-1"), told("Wed, 21 Oct 2026 07:28:00 GMT")), (None, None));
    }
}
