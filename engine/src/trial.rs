//! A sandbox that serves no run: for proofs and measurements of an engine. It reaches nothing and may spend nothing.

use std::{collections::BTreeMap, time::Duration};

use assay_core::{
    control::{
        init::{Backend, InitConfig},
        proxy::ProxyAssignment,
        runner::RunnerConfig,
        signature::Signer,
    },
    digest::hex,
    id::{AttemptId, Fence, RunId, SandboxId},
    phase::EgressPhase,
    policy::{AuditDuty, Recorded},
    upstream::Secret,
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
        proxy: ProxyAssignment {
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
            deny_ech: std::collections::BTreeSet::new(),
            injections: Vec::new(),
            audit: AuditDuty::default(),
            record: Recorded::default(),
            replay: None,
        },
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
