//! From a plan to what decides about the order of phases. Pure.

use std::time::Duration;

use assay_core::task::{
    compose::{Check, Service},
    config::{Healthcheck, Strategy},
    plan::{Mode, Plan, StepPlan},
};

use crate::row::{Outline, StepOutline, seconds};

/// What the agent's manifest asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Wishes {
    /// The longest that the install command may take; absent where there is none.
    pub install: Option<Duration>,
    /// The longest that the agent wants to take.
    pub agent: Option<Duration>,
}

/// The outline of a plan for an agent with these wishes.
pub fn outline(plan: &Plan, wishes: Wishes) -> Outline {
    Outline {
        health: plan.healthcheck.is_some(),
        health_limit: plan.healthcheck.as_ref().map_or(Duration::ZERO, health_limit),
        services_limit: services_limit(&plan.services),
        limits: plan.limits.clone(),
        final_only: plan.strategy == Strategy::Final,
        steps: plan
            .steps
            .iter()
            .enumerate()
            .map(|(index, one)| step(plan, one, wishes, index == 0))
            .collect(),
    }
}

fn step(plan: &Plan, step: &StepPlan, wishes: Wishes, first: bool) -> StepOutline {
    let install = wishes.install.filter(|_| first);
    let checks = step.healthcheck.as_ref().map_or(Duration::ZERO, health_limit);
    let script = if step.files.has_setup {
        seconds(plan.limits.setup_sec)
    } else {
        Duration::ZERO
    };
    let agent = seconds(step.agent.timeout_sec);
    let hooks: Duration = step.collect.iter().map(|hook| seconds(hook.timeout_sec)).sum();
    let (separate, fresh) = match &step.verifier.mode {
        Mode::Shared { .. } => (false, Duration::ZERO),
        Mode::Separate(own) => {
            let health = own.healthcheck.as_ref().map_or(Duration::ZERO, health_limit);
            let start = seconds(own.limits.start_sec) + services_limit(&own.services);
            (true, start + seconds(own.limits.build_sec) + health)
        }
    };
    StepOutline {
        setup: install.is_some() || step.files.workdir.is_some() || step.healthcheck.is_some(),
        setup_limit: install.unwrap_or_default() + script + checks + UPLOAD,
        agent_limit: wishes.agent.map_or(agent, |wish| wish.min(agent)),
        collect_limit: hooks + seconds(plan.limits.collect_sec),
        verify_limit: fresh + seconds(step.verifier.timeout_sec),
        separate,
        min_reward: step.min_reward.clone(),
    }
}

/// The longest that a healthcheck can take until it has passed or failed.
pub fn health_limit(check: &Healthcheck) -> Duration {
    let tries = u32::try_from(check.retries).unwrap_or(1).max(1);
    let one = seconds(check.timeout_sec);
    seconds(check.start_period_sec) + (seconds(check.interval_sec) + one) * tries + one
}

/// The longest that services can take until all are ready or one has failed: each may have to wait for another.
pub fn services_limit(services: &[Service]) -> Duration {
    let checks = services.iter().filter_map(|service| service.healthcheck.as_ref());
    checks.map(Check::longest).sum::<Duration>().min(LONGEST_SERVICES)
}

/// A task that needs longer is told so: nobody waits for hours for what never gets healthy.
const LONGEST_SERVICES: Duration = Duration::from_mins(30);
/// A step whose files are only uploaded takes a moment too.
const UPLOAD: Duration = Duration::from_secs(30);
