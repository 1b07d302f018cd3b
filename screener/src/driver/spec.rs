//! What an engine is asked for, from assignment and plan: egress by phase, purses, keys, limits. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use assay_core::{
    control::{
        init::{Backend, InitConfig},
        proxy::{ProxyAssignment, Purse},
        runner::RunnerConfig,
        signature::Signer,
    },
    digest::hex,
    egress::Egress,
    limits::Limits,
    money::PicoUsd,
    phase::EgressPhase,
    price::ModelSlug,
    recording::Source,
    secret::Injection,
    task::plan::{Mode, Plan, StepPlan},
    upstream::{Secret, Upstream},
    wire::worker::Assignment,
};
use assay_engine::{BuildNetwork, BuildProxy, ImageRef, Resources, SandboxFiles, SandboxSpec};

use super::services;
use crate::{
    derive::{self, Place},
    row::seconds,
};

/// What a sandbox is made from.
#[derive(Clone, Copy)]
pub(super) struct Ingredients<'a> {
    pub(super) assignment: &'a Assignment,
    pub(super) plan: &'a Plan,
    /// The step under way.
    pub(super) step: &'a StepPlan,
    pub(super) resolvers: &'a [SocketAddr],
}

impl Ingredients<'_> {
    /// A sandbox for the agent or for a separate verifier. `None` when the attempt's seed is none.
    pub(super) fn sandbox(
        &self,
        place: Place,
        image: ImageRef,
        images: &BTreeMap<String, String>,
        phase: EgressPhase,
    ) -> Option<SandboxSpec> {
        let plan = self.plan;
        let (limits, gpus, services) = match (place, &self.step.verifier.mode) {
            (Place::Verifier(_), Mode::Separate(own)) => (&own.limits, &own.gpus, &own.services),
            (Place::Main | Place::Build | Place::Verifier(_), _) => {
                (&plan.limits, &plan.gpus, &plan.services)
            }
        };
        let mut files = self.files(place, phase)?;
        let services = services::specs(services, images, &files.runner);
        files.runner.services = services.iter().map(|one| one.config.place.clone()).collect();
        Some(SandboxSpec {
            sandbox: derive::sandbox(self.assignment.attempt, place),
            run: self.assignment.run,
            attempt: self.assignment.attempt,
            image,
            resources: resources(limits),
            gpus: gpus.clone(),
            services,
            files,
            start_timeout: seconds(limits.start_sec),
        })
    }

    /// What a build may reach. `None` when the attempt's seed is none.
    pub(super) fn build_network(&self, egress: &Egress) -> Option<BuildNetwork> {
        if *egress == Egress::None {
            return Some(BuildNetwork::None);
        }
        let mut files = self.files(Place::Build, EgressPhase::Build)?;
        files.proxy.egress.insert(EgressPhase::Build, egress.clone());
        Some(BuildNetwork::Through(Box::new(BuildProxy {
            egress: egress.clone(),
            files,
            attempt: self.assignment.attempt,
            run: self.assignment.run,
        })))
    }

    fn files(&self, place: Place, phase: EgressPhase) -> Option<SandboxFiles> {
        let seed = derive::seed(&self.assignment.seed, place)?;
        let signer = Signer::new(&seed);
        let sandbox = derive::sandbox(self.assignment.attempt, place);
        let phases: &[EgressPhase] = match place {
            Place::Main => &[EgressPhase::Setup, EgressPhase::Agent, EgressPhase::Verify],
            Place::Verifier(_) => &[EgressPhase::Verify],
            Place::Build => &[EgressPhase::Build],
        };
        let of_phases = |purse: fn(&Self, EgressPhase) -> Option<Purse>| {
            phases
                .iter()
                .filter_map(|phase| Some((*phase, purse(self, *phase)?)))
                .collect::<BTreeMap<_, _>>()
        };
        let purses = of_phases(Self::purse);
        Some(SandboxFiles {
            init: InitConfig {
                hold: true,
                backend: Backend::Auto,
                install: Vec::new(),
            },
            proxy: ProxyAssignment {
                sandbox,
                run: self.assignment.run,
                fence: self.assignment.fence,
                public_key: signer.public_key(),
                mac_key: Secret::new(hex(&signer.mac_key())),
                egress: phases.iter().map(|phase| (*phase, self.egress(*phase))).collect(),
                steps: self.steps(place),
                phase,
                upstreams: if purses.is_empty() {
                    Vec::new()
                } else {
                    self.upstreams()
                },
                purses,
                prices: self.assignment.prices.models.clone(),
                price_version: self.assignment.prices.version.clone(),
                resolvers: self.resolvers.to_vec(),
                fixed_addresses: BTreeMap::new(),
                extra_roots_pem: None,
                deny_ech: self.assignment.policy.deny_ech(),
                injections: self.injections(place),
                audit: self.assignment.policy.audit,
                record: self.assignment.policy.record,
                replay: self.assignment.replay.as_ref().map(|replay| Source {
                    digest: replay.digest,
                    size_bytes: replay.size_bytes,
                }),
            },
            runner: RunnerConfig {
                sandbox,
                public_key: signer.public_key(),
                fence: self.assignment.fence,
                proxy: true,
                max_pids: self.plan.limits.pids.saturating_sub(RESERVED_PIDS).max(16),
                services: Vec::new(),
            },
        })
    }

    /// A build gets nothing secret: what it writes is kept for other runs.
    fn injections(&self, place: Place) -> Vec<Injection> {
        let Assignment { run, secrets, .. } = self.assignment;
        match place {
            Place::Build => Vec::new(),
            Place::Main | Place::Verifier(_) => secrets
                .iter()
                .map(|(name, secret)| secret.injection(*run, name))
                .collect(),
        }
    }

    /// Nobody is called in a replay, so no credential is handed over.
    fn upstreams(&self) -> Vec<Upstream> {
        let mut upstreams = self.assignment.upstreams.clone();
        if self.assignment.replay.is_some() {
            for upstream in &mut upstreams {
                upstream.credential = Secret::new(String::new());
            }
        }
        upstreams
    }

    fn egress(&self, phase: EgressPhase) -> Egress {
        match phase {
            EgressPhase::Build => self.plan.build_egress.clone(),
            EgressPhase::Setup => self.plan.setup_egress.clone(),
            EgressPhase::Agent => self.step.agent.egress.clone(),
            EgressPhase::Verify => self.step.verifier.egress.clone(),
        }
    }

    /// What the steps of the agent's sandbox may reach otherwise than its first one. Others serve one step.
    fn steps(&self, place: Place) -> BTreeMap<u32, BTreeMap<EgressPhase, Egress>> {
        let differs = |(number, step): (u32, &StepPlan)| {
            let egress = [
                (EgressPhase::Agent, &step.agent.egress, &self.step.agent.egress),
                (
                    EgressPhase::Verify,
                    &step.verifier.egress,
                    &self.step.verifier.egress,
                ),
            ];
            let other: BTreeMap<_, _> = egress
                .into_iter()
                .filter(|(_, own, first)| own != first)
                .map(|(phase, own, _)| (phase, own.clone()))
                .collect();
            (!other.is_empty()).then_some((number, other))
        };
        match place {
            Place::Main => (0..).zip(&self.plan.steps).filter_map(differs).collect(),
            Place::Verifier(_) | Place::Build => BTreeMap::new(),
        }
    }

    /// A phase without models has no purse.
    fn purse(&self, phase: EgressPhase) -> Option<Purse> {
        let policy = &self.assignment.policy;
        let (models, budget): (&BTreeSet<ModelSlug>, PicoUsd) = match phase {
            EgressPhase::Agent => (&policy.models.allow, self.assignment.budget),
            EgressPhase::Verify => (&policy.verifier.models, self.assignment.verifier_budget),
            EgressPhase::Build | EgressPhase::Setup => return None,
        };
        (!models.is_empty()).then(|| Purse {
            budget,
            models: models.clone(),
            deny_fields: policy.models.deny_fields.clone(),
            max_requests: policy.budget.max_requests,
            max_tokens: policy.budget.max_tokens,
            max_parallel: policy.budget.max_parallel,
            requests_per_minute: policy.budget.requests_per_minute,
            tokens_per_minute: policy.budget.tokens_per_minute,
            seed: policy.models.seed,
            silence_ms: silence_ms(policy.time.model_silence_sec),
        })
    }
}

/// Ten minutes where the policy says nothing, and at most: models may think for long before the first byte.
fn silence_ms(asked: Option<f64>) -> u64 {
    let asked = asked.map_or(LONGEST_SILENCE, seconds).min(LONGEST_SILENCE);
    u64::try_from(asked.as_millis()).unwrap_or(u64::MAX)
}

fn resources(limits: &Limits) -> Resources {
    Resources {
        cpu_milli: limits.cpu_milli,
        memory_bytes: limits.memory_mb << 20,
        pids: limits.pids,
        disk_bytes: limits.storage_mb << 20,
    }
}

const LONGEST_SILENCE: std::time::Duration = std::time::Duration::from_mins(10);
/// Tasks that the runner keeps for itself.
const RESERVED_PIDS: u64 = 16;
