//! What becomes of a run when an attempt ends: the table of retries, pure.

use assay_core::cause::Cause;

/// Attempts at a run, at most.
pub const MAX_ATTEMPTS: u32 = 3;

/// What is known when an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Why it ended.
    pub cause: Cause,
    /// Its score, where it has one.
    pub score: Option<f64>,
    /// Attempts begun, this one included.
    pub attempts: u32,
    /// Attempts that ended as `proxy_lost` before this one.
    pub proxy_losses: u32,
    /// Attempts for which there was no room before this one. They do not count.
    pub no_rooms: u32,
    /// Whether somebody cancelled the run.
    pub cancelled: bool,
    /// A random number for the jitter.
    pub dice: u32,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The run ends with this score.
    Finished {
        /// The cause that counts.
        cause: Cause,
        /// The score.
        score: f64,
    },
    /// The run ends without a score.
    GaveUp {
        /// The cause of the last attempt.
        cause: Cause,
    },
    /// The run ends because somebody asked for it.
    Cancelled,
    /// The run goes back into the queue.
    Retry {
        /// The cause of this attempt.
        cause: Cause,
        /// Not claimed for so long.
        delay_ms: u64,
    },
}

impl Ended {
    /// The cause that counts: a proxy that died twice was killed by the agent.
    pub fn effective_cause(&self) -> Cause {
        if self.cause == Cause::ProxyLost && self.proxy_losses > 0 {
            Cause::AgentBrokeSandbox
        } else {
            self.cause
        }
    }

    /// Decides.
    pub fn outcome(&self) -> Outcome {
        let cause = self.effective_cause();
        if cause == Cause::Cancelled {
            return Outcome::Cancelled;
        }
        if cause.is_graded() {
            let score = self.score.filter(|score| score.is_finite()).unwrap_or(0.0);
            return Outcome::Finished { cause, score };
        }
        if self.cancelled {
            return Outcome::Cancelled;
        }
        let counted = self.attempts.saturating_sub(self.no_rooms);
        if cause == Cause::NoRoom || (cause.is_retried() && counted < MAX_ATTEMPTS) {
            let delay_ms = back_off_ms(self.attempts, self.dice);
            return Outcome::Retry { cause, delay_ms };
        }
        Outcome::GaveUp { cause }
    }
}

/// 2 s, then 4 s, then 8 s and so on up to 60 s, of which a random half to whole.
fn back_off_ms(attempts: u32, dice: u32) -> u64 {
    let full = (1000u64 << attempts.clamp(1, 6)).min(60_000);
    let half = full / 2;
    half + u64::from(dice) % (half + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ended(cause: Cause, attempts: u32) -> Ended {
        Ended {
            cause,
            score: Some(1.0),
            attempts,
            proxy_losses: 0,
            no_rooms: 0,
            cancelled: false,
            dice: 0,
        }
    }

    #[test]
    fn a_completed_attempt_ends_the_run_with_its_score() {
        let outcome = ended(Cause::Completed, 1).outcome();
        assert_eq!(
            outcome,
            Outcome::Finished {
                cause: Cause::Completed,
                score: 1.0
            }
        );
    }

    #[test]
    fn an_agents_fault_without_a_score_is_zero() {
        let outcome = Ended {
            score: None,
            ..ended(Cause::NoPatch, 1)
        }
        .outcome();
        assert_eq!(
            outcome,
            Outcome::Finished {
                cause: Cause::NoPatch,
                score: 0.0
            }
        );
    }

    #[test]
    fn a_proxy_lost_twice_is_the_agents_fault() {
        assert!(matches!(
            ended(Cause::ProxyLost, 1).outcome(),
            Outcome::Retry { .. }
        ));
        let second = Ended {
            proxy_losses: 1,
            score: None,
            ..ended(Cause::ProxyLost, 2)
        };
        assert_eq!(
            second.outcome(),
            Outcome::Finished {
                cause: Cause::AgentBrokeSandbox,
                score: 0.0
            }
        );
    }

    #[test]
    fn an_attempt_without_room_does_not_count() {
        for attempts in [1, 3, 30] {
            let outcome = ended(Cause::NoRoom, attempts).outcome();
            assert!(matches!(outcome, Outcome::Retry { .. }), "{attempts}");
        }
        let after = |no_rooms| Ended {
            no_rooms,
            ..ended(Cause::SandboxLost, 4)
        };
        assert!(matches!(after(2).outcome(), Outcome::Retry { .. }));
        assert!(matches!(after(1).outcome(), Outcome::GaveUp { .. }));
    }

    #[test]
    fn a_cancelled_run_is_not_tried_again_but_finished_work_counts() {
        let lost = Ended {
            cancelled: true,
            ..ended(Cause::Lost, 1)
        };
        assert_eq!(lost.outcome(), Outcome::Cancelled);
        let done = Ended {
            cancelled: true,
            ..ended(Cause::Completed, 1)
        };
        assert!(matches!(done.outcome(), Outcome::Finished { .. }));
    }

    proptest! {
        #[test]
        fn no_fault_of_platform_provider_or_task_becomes_a_score(
            index in 0..Cause::ALL.len(), attempts in 1u32..6, losses in 0u32..3, cancelled: bool, dice: u32,
        ) {
            let cause = Cause::ALL[index];
            let ended = Ended { cause, score: None, attempts, proxy_losses: losses, no_rooms: 0, cancelled, dice };
            match ended.outcome() {
                Outcome::Finished { cause, .. } => prop_assert!(cause.is_graded()),
                Outcome::Retry { cause, delay_ms } => {
                    let goes_on = attempts < MAX_ATTEMPTS || cause == Cause::NoRoom;
                    prop_assert!(cause.is_retried() && goes_on && !cancelled);
                    prop_assert!((1000..=60_000).contains(&delay_ms));
                }
                Outcome::GaveUp { cause } => prop_assert!(!cause.is_graded()),
                Outcome::Cancelled => prop_assert!(cancelled || cause == Cause::Cancelled),
            }
        }
    }
}
