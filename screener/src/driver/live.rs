//! A live sandbox: its runner and its proxy, and what their refusals mean.

use std::{collections::BTreeMap, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use assay_core::{
    control::{
        proxy::{Ledger, Loaded, Probe, Switch},
        runner::{Collect, Execute, Isolation, Manifest, Written},
        service::{ServiceHealth, ServiceState},
    },
    id::{ExecId, Fence},
    wire::channel::Record,
};
use assay_engine::{Sandbox, SandboxRef};
use assay_runtime::control::{Error, ProxyClient, RunnerClient};
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;

use super::{Halt, fetch::local};
use crate::{
    evidence::{EngineFault, Evidence},
    row::Base,
};

pub(super) use assay_runtime::control::Events;

/// A sandbox that answers.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sandbox: Sandbox,
    runner: RunnerClient,
    proxy: Arc<ProxyClient>,
    surroundings: Surroundings,
}

/// What the task says about everything that runs in a sandbox.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// Over the image's environment.
    pub(super) env: BTreeMap<String, String>,
    /// Instead of the image's working directory.
    pub(super) workdir: Option<String>,
}

/// What came of a collection.
#[derive(Debug)]
pub(super) enum Collected {
    /// It is in the file.
    Here(Manifest),
    /// It is more than may be collected.
    TooBig(String),
}

impl Live {
    pub(super) fn new(sandbox: Sandbox, seed: &[u8; 32], fence: Fence, surroundings: Surroundings) -> Self {
        let id = sandbox.name.sandbox;
        Self {
            runner: RunnerClient::new(sandbox.runner, id, fence, seed),
            proxy: Arc::new(ProxyClient::new(sandbox.proxy, id, fence, seed)),
            sandbox,
            surroundings,
        }
    }

    pub(super) fn proxy(&self) -> Arc<ProxyClient> {
        Arc::clone(&self.proxy)
    }

    pub(super) fn name(&self) -> SandboxRef {
        self.sandbox.name
    }

    /// The task's working directory, or the image's.
    pub(super) fn workdir(&self) -> String {
        let of_image = Some(&self.sandbox.workdir).filter(|path| !path.is_empty());
        self.surroundings
            .workdir
            .as_ref()
            .or(of_image)
            .map_or_else(|| "/".to_owned(), Clone::clone)
    }

    /// The image's user; `None` for root.
    pub(super) fn image_user(&self) -> Option<String> {
        Some(self.sandbox.user.clone()).filter(|user| !user.is_empty())
    }

    /// The image's environment and the task's over it.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let mut env = self.sandbox.env.clone();
        env.extend(self.surroundings.env.clone());
        env
    }

    /// Waits until the runner takes a phase and the proxy answers, and tells how the former confines what it starts.
    ///
    /// The runner has seen its proxy long before. But a port of this machine that another sandbox gave back a moment ago
    /// may still lead there: Podman frees it before it takes its packet rules away.
    pub(super) async fn wait_ready(&self, patience: Duration) -> Result<Isolation, Halt> {
        let start = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let (reason, service) = match self.runner.health().await {
                Ok(health) if health.ready => match self.proxy.health().await {
                    Ok(_) => return Ok(health.isolation),
                    Err(error) => (format!("the proxy's control: {error}"), false),
                },
                Ok(health) => {
                    if let Some(words) = failed(&health.services) {
                        return Err(Evidence::ServiceFailed(words).into());
                    }
                    let reason = health.reason;
                    let service = health.services.iter().any(|service| !service.state.is_up());
                    (
                        reason.unwrap_or_else(|| "the runner is not ready".to_owned()),
                        service,
                    )
                }
                Err(error) => (error.to_string(), false),
            };
            if start.elapsed() > patience {
                if service {
                    let words = format!("not ready within {} s: {reason}", patience.as_secs());
                    return Err(Evidence::ServiceFailed(words).into());
                }
                let message = format!(
                    "the sandbox took no phase within {} s: {reason}",
                    patience.as_secs()
                );
                return Err(Evidence::Engine(EngineFault::Other, message).into());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// The services beside main; none where the runner does not answer.
    pub(super) async fn services(&self) -> Vec<ServiceHealth> {
        self.runner
            .health()
            .await
            .map(|health| health.services)
            .unwrap_or_default()
    }

    /// The end of what a service printed.
    pub(super) async fn service_output(&self, name: &str) -> Result<bytes::Bytes, Error> {
        self.runner.service_output(name).await
    }

    /// What was written to disk since the runner began.
    pub(super) async fn written(&self) -> Result<Written, Error> {
        self.runner.written().await
    }

    /// Does the runner still answer?
    pub(super) async fn answers(&self) -> bool {
        self.runner.health().await.is_ok()
    }

    pub(super) async fn put(&self, root: &str, tar: &Path) -> Result<(), Halt> {
        let mut result = self.runner.put_files(root, None, tar).await;
        if result.as_ref().is_err_and(Error::is_transient) {
            result = self.runner.put_files(root, None, tar).await;
        }
        result.map(|_| ()).map_err(|error| silent("upload", &error))
    }

    pub(super) async fn execute(&self, request: &Execute) -> Result<Events, Halt> {
        let mut result = self.runner.execute(request).await;
        if result.as_ref().is_err_and(Error::is_transient) {
            // The id makes the second one attach where the first arrived.
            result = self.runner.execute(request).await;
        }
        result.map_err(|error| silent("execute", &error))
    }

    /// `None` where the runner does not know the execution.
    pub(super) async fn attach(&self, exec: ExecId, from: Base) -> Result<Option<Events>, Halt> {
        self.runner
            .attach(exec, from.stdout, from.stderr)
            .await
            .map_err(|error| silent("attach", &error))
    }

    pub(super) async fn kill(&self) -> Result<(), Halt> {
        self.runner.kill().await.map_err(|error| silent("kill", &error))
    }

    /// Collects into a file.
    pub(super) async fn collect(&self, request: &Collect, into: &Path) -> Result<Collected, Halt> {
        let mut collection = match self.runner.collect(request).await {
            Ok(collection) => collection,
            Err(error) if error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                return Ok(Collected::TooBig(error.to_string()));
            }
            Err(error) => return Err(silent("collect", &error)),
        };
        let mut file = tokio::fs::File::create(into).await.map_err(local(into))?;
        // Headers of entries, and the manifest, come on top of the content.
        let most = request.max_bytes + request.max_entries.saturating_mul(ENTRY_BYTES);
        let mut taken = 0;
        while let Some(bytes) = collection
            .next()
            .await
            .map_err(|error| silent("collect", &error))?
        {
            taken += bytes.len() as u64;
            if taken > most {
                return Ok(Collected::TooBig(
                    "the sandbox sent more than it announced".to_owned(),
                ));
            }
            file.write_all(&bytes).await.map_err(local(into))?;
        }
        file.flush().await.map_err(local(into))?;
        let text = file_in(into, MANIFEST, MAX_MANIFEST_BYTES)
            .await?
            .unwrap_or_default();
        serde_json::from_slice(&text)
            .map(Collected::Here)
            .map_err(|error| Evidence::Silent(format!("collect: no manifest: {error}")).into())
    }

    pub(super) async fn switch(&self, switch: Switch) -> Result<(), Halt> {
        let phase = switch.phase;
        self.proxy.switch(switch).await.map(|_| ()).map_err(|error| {
            Evidence::NotSwitched(format!("the proxy did not switch to {phase}: {error}")).into()
        })
    }

    /// Which of these addresses take a connection of the proxy within that time.
    pub(super) async fn reaches<const N: usize>(
        &self,
        addresses: [SocketAddr; N],
        patience: Duration,
    ) -> Result<[bool; N], String> {
        let probe = Probe {
            addresses: addresses.to_vec(),
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let probed = self
            .proxy
            .probe(&probe)
            .await
            .map_err(|error| error.to_string())?;
        probed
            .connected
            .try_into()
            .map_err(|_| "the proxy answered for other addresses".to_owned())
    }

    /// Hands over the next bytes of the recording to answer from; tells where the ones after them begin, and whether that
    /// was all.
    pub(super) async fn load_replay(&self, from: u64, bytes: bytes::Bytes) -> Result<Loaded, Halt> {
        let mut result = self.proxy.load_replay(from, bytes.clone()).await;
        if result.as_ref().is_err_and(Error::is_transient) {
            result = self.proxy.load_replay(from, bytes).await;
        }
        result.map_err(|error| silent("hand over the recording", &error))
    }

    pub(super) async fn ledger(&self) -> Result<Ledger, Halt> {
        let mut result = self.proxy.ledger().await;
        if result.as_ref().is_err_and(Error::is_transient) {
            result = self.proxy.ledger().await;
        }
        result.map_err(|error| silent("the proxy's account", &error))
    }

    /// All that the proxy wrote down about money.
    pub(super) async fn write_ahead_log(&self) -> Result<Vec<u8>, Error> {
        let mut log = Vec::new();
        loop {
            let bytes = self.proxy.record(Record::Ledger, log.len() as u64).await?;
            if bytes.is_empty() {
                return Ok(log);
            }
            log.extend_from_slice(&bytes);
        }
    }

    /// Waits a while for bills that the proxy is still asking for.
    pub(super) async fn at_rest(&self) {
        for _ in 0..MOST_WAITS {
            match self.proxy.ledger().await {
                Ok(ledger) if ledger.reconciling > 0 => tokio::time::sleep(BETWEEN_WAITS).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Lets the proxy end. It is about to be removed, so its answer does not matter.
    pub(super) async fn collected(&self) {
        if let Err(error) = self.proxy.collected().await {
            tracing::debug!(%error, "the proxy was not told");
        }
    }
}

/// The first service that failed, in words for people.
pub(super) fn failed(services: &[ServiceHealth]) -> Option<String> {
    services.iter().find_map(|service| match &service.state {
        ServiceState::Failed { reason } => Some(format!("service {}: {reason}", service.name)),
        ServiceState::Waiting { .. } | ServiceState::Started | ServiceState::Ready | ServiceState::Done => {
            None
        }
    })
}

fn silent(what: &str, error: &Error) -> Halt {
    Evidence::Silent(format!("{what}: {error}")).into()
}

/// The content of one file of a tar; `None` when it has no regular file of that path. At most `most` bytes are read.
pub(super) async fn file_in(tar: &Path, path: &str, most: usize) -> Result<Option<Vec<u8>>, Halt> {
    let (from, wanted) = (tar.to_owned(), path.trim_start_matches('/').to_owned());
    tokio::task::spawn_blocking(move || read_entry(&from, &wanted, most))
        .await
        .map_err(|error| Evidence::Bug(error.to_string()))?
        // The tar comes out of the sandbox: what is no tar is no answer.
        .map_err(|error| Evidence::Silent(format!("a collection cannot be read: {error}")).into())
}

fn read_entry(tar: &Path, wanted: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(io::BufReader::new(std::fs::File::open(tar)?));
    for entry in archive.entries()? {
        let entry = entry?;
        let found = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        if found == wanted && entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.take(most as u64).read_to_end(&mut content)?;
            return Ok(Some(content));
        }
    }
    Ok(None)
}

/// Fifteen seconds in all: most bills are known by then, and the others count at their most.
const MOST_WAITS: u32 = 30;
const BETWEEN_WAITS: Duration = Duration::from_millis(500);
const MANIFEST: &str = "manifest.json";
const MAX_MANIFEST_BYTES: usize = 64 << 20;
/// Header, long name and padding of an entry, and its line in the manifest.
const ENTRY_BYTES: u64 = 16 << 10;
