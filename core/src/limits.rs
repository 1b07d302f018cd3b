//! Effective limits: `min(task value or default, operator maximum) × multiplier`, never unlimited.

use serde::{Deserialize, Serialize};

/// Times and sizes that hold for one attempt, after defaults, maxima and multipliers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Building the image, seconds.
    pub build_sec: f64,
    /// Creating the sandbox until it accepts a phase, seconds.
    pub start_sec: f64,
    /// The agent's install command, seconds.
    pub setup_sec: f64,
    /// The agent, seconds.
    pub agent_sec: f64,
    /// The verifier, seconds.
    pub verifier_sec: f64,
    /// Collecting artifacts, seconds.
    pub collect_sec: f64,
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Writable disk in MiB, where the engine can hold it.
    pub storage_mb: u64,
    /// Tasks (processes and threads).
    pub pids: u64,
}

/// The operator's defaults and maxima. Handed to workers at registration and recorded on the attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LimitSettings {
    /// What holds where a task says nothing.
    pub default: Limits,
    /// What no task can exceed.
    pub maximum: Limits,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let default = Limits {
            build_sec: 600.0,
            start_sec: 120.0,
            setup_sec: 360.0,
            agent_sec: 2400.0,
            verifier_sec: 600.0,
            collect_sec: 300.0,
            cpu_milli: 1000,
            memory_mb: 2048,
            storage_mb: 10_240,
            pids: 1024,
        };
        let maximum = Limits {
            build_sec: 3600.0,
            start_sec: 600.0,
            setup_sec: 1800.0,
            agent_sec: 14_400.0,
            verifier_sec: 7200.0,
            collect_sec: 600.0,
            cpu_milli: 16_000,
            memory_mb: 65_536,
            storage_mb: 102_400,
            pids: 8192,
        };
        Self { default, maximum }
    }
}

/// One limit: the task's value or the default, capped, then multiplied.
pub fn effective(task: Option<f64>, default: f64, maximum: f64, multiplier: f64) -> f64 {
    task.filter(|value| value.is_finite() && *value > 0.0)
        .unwrap_or(default)
        .min(maximum)
        * multiplier
}

#[cfg(test)]
mod tests {
    use super::effective;

    #[test]
    #[expect(clippy::float_cmp, reason = "capped and doubled values are exact")]
    fn unset_means_the_default_never_unlimited() {
        assert_eq!(effective(None, 2400.0, 14_400.0, 1.0), 2400.0);
        assert_eq!(effective(Some(f64::INFINITY), 2400.0, 14_400.0, 1.0), 2400.0);
        assert_eq!(effective(Some(0.0), 2400.0, 14_400.0, 1.0), 2400.0);
        assert_eq!(effective(Some(99_999.0), 2400.0, 14_400.0, 0.5), 7200.0);
    }
}
