//! Asks an API server again that is not up to it for a moment.
//!
//! The client itself waits out 429, 503 and 504. What is left are faults of its own (500, 502) and connections that break. Every
//! question of ours may be asked twice: what is made has a fixed name, what is deleted is named by its uid.

use std::{future::Future, time::Duration};

use kube::Error;

use super::fault::code;

/// Between two tries.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The answer, or the last fault. Callers bound the time of the whole.
pub(super) async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for pause in PAUSES {
        match ask().await {
            Err(error) if passes(&error) => {
                tracing::debug!(%error, "the API server is asked again");
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// A fault of the server or of the way to it, not an answer.
fn passes(error: &Error) -> bool {
    match code(error) {
        Some(code) => (500..600).contains(&code),
        None => matches!(error, Error::HyperError(_) | Error::Service(_)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use kube::core::Status;

    use super::*;

    async fn asked(failing: u32, code: u16) -> (Result<u32, Error>, u32) {
        let count = AtomicU32::new(0);
        let answer = again(|| async {
            let time = count.fetch_add(1, Ordering::Relaxed);
            if time < failing {
                let status = Status::failure("words", "Reason").with_code(code);
                return Err(Error::Api(Box::new(status)));
            }
            Ok(time)
        })
        .await;
        (answer, count.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn faults_are_asked_about_again_and_refusals_are_not() {
        assert_eq!(asked(2, 500).await.0.unwrap(), 2);
        let (answer, times) = asked(1, 403).await;
        assert!(answer.is_err() && times == 1);
        let (answer, times) = asked(99, 502).await;
        assert!(answer.is_err() && times == 5, "it has an end: {times}");
    }
}
