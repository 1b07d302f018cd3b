//! Seeks in the background whether runs may be taken here.

use std::{future::Future, time::Duration};

use assay_engine::Error;
use tokio_util::task::AbortOnDropHandle;

use crate::platform::jittered;

/// Whether runs may be taken, as far as it is known.
#[derive(Debug)]
pub(super) enum Proof {
    /// It is looked for.
    Sought(AbortOnDropHandle<Result<(), Error>>),
    /// They may.
    There,
}

impl Proof {
    /// Asks until the answer is no fault that passes.
    pub(super) fn seek<F>(guard: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send,
    {
        let sought = async move {
            let mut pause = FIRST_PAUSE;
            loop {
                match guard().await {
                    Err(error) if error.is_transient() => {
                        tracing::warn!(%error, "not yet shown that runs may be taken here");
                    }
                    known => return known,
                }
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        Self::Sought(AbortOnDropHandle::new(tokio::spawn(sought)))
    }

    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::There)
    }

    /// Ends once when the answer is known, and never after that. Cancel-safe.
    pub(super) async fn found(&mut self) -> Result<(), Error> {
        let Self::Sought(task) = self else {
            return std::future::pending().await;
        };
        let known = task.await.unwrap_or_else(|error| {
            Err(Error::Refused {
                operation: "look whether runs may be taken",
                message: error.to_string(),
            })
        });
        *self = Self::There;
        known
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_asked_again_and_a_refusal_is_final() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let mut proof = Proof::seek(move || {
            let time = count.fetch_add(1, Ordering::Relaxed);
            async move {
                match time {
                    0 => Err(Error::NoRoom("full".to_owned())),
                    _ => Ok(()),
                }
            }
        });
        assert!(!proof.is_there());
        proof.found().await.unwrap();
        assert!(proof.is_there());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let mut proof = Proof::seek(|| async {
            Err(Error::Refused {
                operation: "look",
                message: "no wall".to_owned(),
            })
        });
        assert!(proof.found().await.unwrap_err().to_string().contains("no wall"));
    }
}
