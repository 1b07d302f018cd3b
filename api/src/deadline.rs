//! How long one attempt may take as a whole. Each phase has a deadline of its own; this one catches what they miss.

use assay_core::{limits::LimitSettings, policy::Policy};

/// Seconds: the task's own sum (or the operator's maxima), at least what the policy asks for, multiplied, and some slack
/// for what has no deadline of its own.
pub fn longest_sec(limits: &LimitSettings, policy: &Policy, task_sec: Option<f64>) -> f64 {
    let most = &limits.maximum;
    let maxima = most.build_sec
        + 2.0 * most.start_sec
        + most.setup_sec
        + most.agent_sec
        + most.verifier_sec
        + most.collect_sec;
    let asked = policy.time.agent_sec.unwrap_or(0.0).min(most.agent_sec)
        + policy.time.verifier_sec.unwrap_or(0.0).min(most.verifier_sec);
    (task_sec.unwrap_or(maxima) + asked) * policy.time.multiplier.max(0.1) + SLACK_SEC
}

/// Queues at the engine, uploads, proofs.
const SLACK_SEC: f64 = 900.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiplier_stretches_the_whole() {
        let limits = LimitSettings::default();
        let mut policy = Policy::default();
        assert!((longest_sec(&limits, &policy, Some(100.0)) - 1000.0).abs() < 1e-9);
        policy.time.multiplier = 2.0;
        assert!((longest_sec(&limits, &policy, Some(100.0)) - 1100.0).abs() < 1e-9);
    }
}
