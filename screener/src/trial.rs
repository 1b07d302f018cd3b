//! A sandbox that serves no run, with the clients of its runner and its proxy: for seeing from inside what holds.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::{
        proxy::Probe,
        runner::{Event, ExecLimits, Execute, Stream},
        signature::Signer,
    },
    id::{ExecId, Fence, SandboxId},
    phase::EgressPhase,
};
use assay_engine::{Beacon, Engine, Error, Resources, SandboxRef, SandboxSpec, trial};
use assay_runtime::control::{ProxyClient, RunnerClient};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// A living sandbox. Whoever started it ends it.
#[derive(Debug)]
pub struct Trial<'a, E> {
    engine: &'a E,
    name: SandboxRef,
    /// Its runner.
    pub runner: RunnerClient,
    /// Its proxy.
    pub proxy: ProxyClient,
}

impl<'a, E: Engine> Trial<'a, E> {
    /// Starts one under an image, and waits until it takes work.
    ///
    /// # Errors
    /// The engine cannot make it, or it does not get ready; nothing is left of it then.
    pub async fn start(
        engine: &'a E,
        image: &str,
        phase: EgressPhase,
        resources: Resources,
    ) -> Result<Self, Error> {
        let (seed, number) = (random::<32>()?, random::<10>()?);
        let sandbox = SandboxId::new(SystemClock.now(), number);
        let signer = Signer::new(&seed);
        let spec = SandboxSpec {
            files: trial::files(sandbox, phase, &signer),
            resources,
            ..trial::spec(sandbox, image, &signer)
        };
        let name = SandboxRef { sandbox };
        let risen = async {
            let made = engine.create(&spec).await?;
            let started = Self {
                engine,
                name,
                runner: RunnerClient::new(made.runner, sandbox, Fence(1), &seed),
                proxy: ProxyClient::new(made.proxy, sandbox, Fence(1), &seed),
            };
            started.until_ready().await?;
            Ok(started)
        };
        match risen.await {
            Ok(started) => Ok(started),
            Err(error) => {
                engine.destroy(&name).await?;
                Err(error)
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> SandboxRef {
        self.name
    }

    /// Says to the engine's own network wall which phase it is; where its beacon then answers.
    ///
    /// # Errors
    /// The engine does not do it.
    pub async fn set_phase(&self, phase: EgressPhase) -> Result<Option<Beacon>, Error> {
        self.engine.set_phase(&self.name, phase).await
    }

    /// Which of these addresses takes a connection of the proxy, whom the packet rules let pass: what is refused here is
    /// refused by the network outside of the sandbox.
    ///
    /// # Errors
    /// The proxy does not answer.
    pub async fn reaches<const N: usize>(
        &self,
        addresses: [SocketAddr; N],
        patience: Duration,
    ) -> Result<[bool; N], Error> {
        let probe = Probe {
            addresses: addresses.into(),
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let probed = self.proxy.probe(&probe).await.map_err(|error| away(&error))?;
        probed
            .connected
            .try_into()
            .map_err(|_| away(&"it answered about other addresses"))
    }

    /// Runs a program as root of the workload to its end. What it printed to standard output; its exit code.
    ///
    /// # Errors
    /// The runner does not answer, or the program could not be started.
    pub async fn output(&self, argv: &[&str]) -> Result<(Vec<u8>, Option<i32>), Error> {
        let request = Execute {
            exec: ExecId::new(SystemClock.now(), random()?),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            cwd: None,
            env: BTreeMap::new(),
            user: None,
            stdin: false,
            limits: ExecLimits {
                wall_ms: 180_000,
                grace_ms: 1_000,
            },
            keep_survivors: false,
        };
        let mut events = self
            .runner
            .execute(&request)
            .await
            .map_err(|error| away(&error))?;
        let mut printed = Vec::new();
        loop {
            match events.next().await.map_err(|error| away(&error))? {
                Some(Event::Output {
                    stream: Stream::Stdout,
                    data,
                    ..
                }) => printed.extend(BASE64_STANDARD.decode(data).map_err(|error| away(&error))?),
                Some(Event::End(end)) => return Ok((printed, end.exit_code)),
                Some(Event::Started { .. } | Event::Gap { .. } | Event::Output { .. }) => {}
                None => return Err(away(&"the program has no end")),
            }
        }
    }

    /// Removes every trace of it.
    ///
    /// # Errors
    /// The engine does not do it.
    pub async fn end(self) -> Result<(), Error> {
        self.engine.destroy(&self.name).await
    }

    async fn until_ready(&self) -> Result<(), Error> {
        let end = Instant::now() + START;
        loop {
            let reason = match self.runner.health().await {
                Ok(health) if health.ready => return Ok(()),
                Ok(health) => health.reason.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > end {
                return Err(away(&format!("the sandbox is not ready: {reason}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| away(&error))?;
    Ok(bytes)
}

fn away(error: &dyn std::fmt::Display) -> Error {
    Error::Unavailable {
        operation: "try a sandbox",
        message: error.to_string(),
    }
}

/// For a sandbox that only looks around.
pub const SMALL: Resources = Resources {
    cpu_milli: 250,
    memory_bytes: 128 << 20,
    pids: 128,
    disk_bytes: 128 << 20,
};
const START: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);
