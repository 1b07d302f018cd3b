//! A sandbox that serves no run: for proofs and measurements of an engine. It reaches nothing and may spend nothing: the
//! only model that it may name is served by nobody, and its purse is empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use assay_core::{
    control::{
        init::{Backend, InitConfig},
        proxy::{ProxyAssignment, Purse, TRIAL_MODEL},
        runner::RunnerConfig,
        signature::Signer,
    },
    digest::hex,
    id::{AttemptId, Fence, RunId, SandboxId},
    money::PicoUsd,
    phase::EgressPhase,
    policy::{AuditDuty, Recorded},
    price::{ModelPrice, ModelSlug},
    task::plan::Gpus,
    upstream::{Dialect, Secret, Upstream},
};

use crate::{ImageRef, Resources, SandboxFiles, SandboxSpec};

/// One CPU and half a gigabyte under an image of your choice, in phase `setup`, for whoever can sign as `signer`.
/// Run and attempt share the sandbox's number.
pub fn spec(sandbox: SandboxId, image: &str, signer: &Signer) -> SandboxSpec {
    SandboxSpec {
        sandbox,
        run: RunId(sandbox.0),
        attempt: AttemptId(sandbox.0),
        image: ImageRef(image.to_owned()),
        resources: Resources {
            cpu_milli: 1_000,
            memory_bytes: 512 << 20,
            pids: 256,
            disk_bytes: 1 << 30,
        },
        gpus: Gpus::default(),
        services: Vec::new(),
        files: files(sandbox, EgressPhase::Setup, signer),
        start_timeout: Duration::from_mins(1),
    }
}

/// What init, proxy and runner of such a sandbox are told. The fence is 1.
pub fn files(sandbox: SandboxId, phase: EgressPhase, signer: &Signer) -> SandboxFiles {
    SandboxFiles {
        init: InitConfig {
            hold: true,
            backend: Backend::Auto,
            install: Vec::new(),
        },
        proxy: with_nobodys_model(ProxyAssignment {
            sandbox,
            run: RunId(sandbox.0),
            fence: Fence(1),
            public_key: signer.public_key(),
            mac_key: Secret::new(hex(&signer.mac_key())),
            egress: BTreeMap::new(),
            steps: BTreeMap::new(),
            phase,
            purses: BTreeMap::new(),
            upstreams: Vec::new(),
            prices: BTreeMap::new(),
            price_version: "1".to_owned(),
            resolvers: Vec::new(),
            fixed_addresses: BTreeMap::new(),
            extra_roots_pem: None,
            deny_ech: BTreeSet::new(),
            injections: Vec::new(),
            audit: AuditDuty::default(),
            record: Recorded::default(),
            replay: None,
        }),
        runner: RunnerConfig {
            sandbox,
            public_key: signer.public_key(),
            fence: Fence(1),
            proxy: true,
            max_pids: 200,
            services: Vec::new(),
        },
    }
}

/// Lets every phase name a model, for nothing: the self-test then sees how requests are refused. One that was let through
/// would end at the empty purse, and behind it at a closed port of the sandbox itself.
fn with_nobodys_model(mut assignment: ProxyAssignment) -> ProxyAssignment {
    let (Ok(model), Ok(host)) = (TRIAL_MODEL.parse::<ModelSlug>(), "models.invalid".parse()) else {
        return assignment;
    };
    let models: BTreeSet<ModelSlug> = [model.clone()].into();
    let purse = Purse {
        budget: PicoUsd::ZERO,
        models: models.clone(),
        deny_fields: BTreeSet::new(),
        max_requests: 1_000,
        max_tokens: 1_000_000,
        max_parallel: 16,
        requests_per_minute: None,
        tokens_per_minute: None,
        seed: None,
        silence_ms: 1_000,
    };
    assignment.purses = EgressPhase::ALL.map(|phase| (phase, purse.clone())).into();
    assignment.prices = [(model, price())].into();
    assignment.upstreams = vec![Upstream {
        host,
        base_path: "/v1".to_owned(),
        dialect: Dialect::OpenRouter,
        models,
        credential: Secret::new("none".to_owned()),
        providers: BTreeSet::new(),
        zdr: true,
        workspace: None,
        address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, CLOSED_PORT))),
        ca_pem: None,
    }];
    assignment
}

/// Any that is not zero, so that every request needs money.
fn price() -> ModelPrice {
    ModelPrice {
        input: PicoUsd::from_pico(1),
        output: PicoUsd::from_pico(1),
        cached_input: None,
        cache_write: None,
        request: PicoUsd::ZERO,
        image: None,
        image_tokens: None,
        long_context: None,
        answers_as: BTreeSet::new(),
        context_tokens: 100_000,
        max_output_tokens: 4_000,
        free: false,
    }
}

/// The discard service's; nothing of ours listens there.
const CLOSED_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_may_name_a_model_and_none_may_pay_for_it() {
        let sandbox = SandboxId(uuid::Uuid::nil());
        let proxy = files(sandbox, EgressPhase::Agent, &Signer::new(&[7; 32])).proxy;
        assert_eq!(proxy.upstreams.len(), 1);
        for phase in EgressPhase::ALL {
            let purse = &proxy.purses[&phase];
            assert!(purse.budget.is_zero() && purse.models.len() == 1, "{phase:?}");
        }
    }
}
