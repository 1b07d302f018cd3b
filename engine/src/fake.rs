//! A scripted engine for tests of those who drive one. It keeps sandboxes as rows in memory and runs nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use assay_core::{id::SandboxId, phase::EgressPhase};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    Beacon, BuildOutcome, Death, DiskUse, Engine, Error, Evidence, ImageRef, ImageSpec, Listed, Resources,
    Sandbox, SandboxRef, SandboxSpec,
};

/// Where the script says that the two control interfaces of a sandbox answer.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The runner's.
    pub runner: SocketAddr,
    /// The proxy's.
    pub proxy: SocketAddr,
}

/// What was asked of the engine, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Engine::create`].
    Create(SandboxId),
    /// [`Engine::set_phase`].
    SetPhase(SandboxId, EgressPhase),
    /// [`Engine::stop_proxy`].
    StopProxy(SandboxId),
    /// [`Engine::destroy`].
    Destroy(SandboxId),
    /// [`Engine::build`].
    Build(assay_core::digest::Digest),
}

/// The engine. Without a script every call succeeds.
#[derive(Debug)]
pub struct Fake {
    addresses: Addresses,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, Row>,
    images: BTreeMap<assay_core::digest::Digest, ImageRef>,
    creates: VecDeque<Error>,
    builds: VecDeque<Result<BuildOutcome, Error>>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Row {
    sandbox: Sandbox,
    listed: Listed,
    evidence: Evidence,
}

impl Fake {
    /// An engine whose sandboxes all answer at these addresses.
    pub fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            state: Mutex::default(),
        }
    }

    /// The next creation fails like this.
    pub fn fail_next_create(&self, error: Error) {
        self.state().creates.push_back(error);
    }

    /// The next build that is not found by its key ends like this.
    pub fn next_build(&self, outcome: Result<BuildOutcome, Error>) {
        self.state().builds.push_back(outcome);
    }

    /// Main ends by itself.
    pub fn end_main(&self, sandbox: SandboxRef, death: Death) {
        if let Some(row) = self.state().sandboxes.get_mut(&sandbox.sandbox) {
            row.evidence.main = Some(death);
        }
    }

    /// Everything that was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Fake {
    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, Error> {
        let mut state = self.state();
        state.calls.push(Call::Create(spec.sandbox));
        if let Some(error) = state.creates.pop_front() {
            return Err(error);
        }
        let name = SandboxRef {
            sandbox: spec.sandbox,
        };
        let row = state.sandboxes.entry(spec.sandbox).or_insert_with(|| Row {
            sandbox: Sandbox {
                name,
                runner: self.addresses.runner,
                proxy: self.addresses.proxy,
                workdir: "/".to_owned(),
                user: String::new(),
                env: BTreeMap::new(),
            },
            listed: Listed {
                name,
                attempt: spec.attempt,
            },
            evidence: Evidence::default(),
        });
        Ok(row.sandbox.clone())
    }

    async fn find(&self, sandbox: &SandboxRef) -> Result<Option<Sandbox>, Error> {
        let state = self.state();
        let row = state.sandboxes.get(&sandbox.sandbox);
        let living = row.filter(|row| row.evidence.main.is_none());
        Ok(living.map(|row| row.sandbox.clone()))
    }

    async fn set_phase(&self, sandbox: &SandboxRef, phase: EgressPhase) -> Result<Option<Beacon>, Error> {
        self.state().calls.push(Call::SetPhase(sandbox.sandbox, phase));
        Ok(None)
    }

    async fn evidence(&self, sandbox: &SandboxRef) -> Result<Evidence, Error> {
        let state = self.state();
        let gone = || Evidence {
            gone: true,
            ..Evidence::default()
        };
        let row = state.sandboxes.get(&sandbox.sandbox);
        Ok(row.map_or_else(gone, |row| row.evidence.clone()))
    }

    async fn disk_used(&self, _sandbox: &SandboxRef) -> Result<DiskUse, Error> {
        Ok(DiskUse::Held)
    }

    async fn stop_proxy(&self, sandbox: &SandboxRef) -> Result<(), Error> {
        self.state().calls.push(Call::StopProxy(sandbox.sandbox));
        Ok(())
    }

    async fn destroy(&self, sandbox: &SandboxRef) -> Result<(), Error> {
        let mut state = self.state();
        state.calls.push(Call::Destroy(sandbox.sandbox));
        state.sandboxes.remove(&sandbox.sandbox);
        Ok(())
    }

    async fn room(&self, _slot: &Resources) -> Result<u32, Error> {
        Ok(u32::MAX)
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        Ok(self.state().sandboxes.values().map(|row| row.listed).collect())
    }

    async fn build(&self, spec: &ImageSpec, _log: mpsc::Sender<Bytes>) -> Result<BuildOutcome, Error> {
        let mut state = self.state();
        state.calls.push(Call::Build(spec.key));
        if let Some(image) = state.images.get(&spec.key) {
            return Ok(BuildOutcome::Built {
                image: image.clone(),
                cached: true,
            });
        }
        let scripted = state.builds.pop_front();
        let outcome = scripted.unwrap_or_else(|| {
            Ok(BuildOutcome::Built {
                image: ImageRef(spec.key.to_string()),
                cached: false,
            })
        })?;
        if let BuildOutcome::Built { image, .. } = &outcome {
            state.images.insert(spec.key, image.clone());
        }
        Ok(outcome)
    }
}
