//! The control plane of the stage: what it is told, and what it tells and asks.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use anyhow::Context as _;
use assay_core::{
    audit::{Chain, Verdict},
    control::{
        proxy::{AuditLine, Health, Ledger, Metrics, Probe, ProxyAssignment, Switch},
        signature::{AUTH_HEADER, Claim, Signer},
    },
    digest::{Digest, hex},
    egress::port,
    phase::EgressPhase,
    wire::channel::Record,
};
use assay_runtime::control::{ProxyClient, RunnerClient};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{FENCE, SEED, Stage, sandbox_id};
use crate::stage::{
    address::{MODEL_SERVICE, RESOLVER, SANDBOX},
    internet::web,
};

/// A connection that was there before; none once it has failed.
#[derive(Debug)]
pub struct Kept(Option<http1::SendRequest<Empty<Bytes>>>);

impl Stage {
    /// What the proxy of the stage is told.
    pub(super) fn assignment(&self) -> anyhow::Result<ProxyAssignment> {
        let signer = Signer::new(&SEED);
        let prices: assay_core::price::PriceTable = toml::from_str(&web::prices())?;
        let model_host = |host: &str, address: Value| {
            json!({
                "host": host, "base_path": "/api/v1", "dialect": "open_router", "models": ["test/small"],
                "credential": "sk-stage-real-credential", "address": address, "ca_pem": self.internet.model.root_pem,
            })
        };
        let hosts = json!([
            "allowed.example",
            "packages.example",
            "other.example",
            "*.wild.example",
            "rebind.example",
            "metadata.example",
            "private.example",
            "loopback.example",
            "mapped.example",
            "nat64.example",
            "unique.example",
            "mixed.example",
            "nowhere.example",
        ]);
        Ok(serde_json::from_value(json!({
            "sandbox": sandbox_id(), "run": "01900000-0000-7000-8000-000000000002", "fence": FENCE,
            "public_key": signer.public_key(), "mac_key": hex(&signer.mac_key()),
            "egress": {
                "setup": {"mode": "public"},
                "agent": {"mode": "hosts", "hosts": hosts},
                "verify": {"mode": "none"},
            },
            "phase": "agent",
            "purses": {"agent": {
                "budget": "1000", "models": ["test/small"],
                "max_requests": 1_000_000, "max_tokens": 1_000_000_000_u64, "max_parallel": 64,
            }},
            "upstreams": [
                model_host("models.example.com", json!(MODEL_SERVICE)),
                model_host("broken.example.com", Value::Null),
            ],
            "prices": prices.models, "price_version": prices.version,
            "resolvers": [SocketAddr::new(RESOLVER.into(), 53)],
        }))?)
    }

    /// The proxy's audit so far.
    pub fn audit(&self) -> anyhow::Result<Vec<AuditLine>> {
        let text = self.internet.place.run(async {
            whole(|from| async move { proxy_client().record(Record::Audit, from).await }).await
        })?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Lets the proxy serve nobody any more; what its audit is worth then.
    pub fn closed_audit(&self) -> anyhow::Result<Verdict> {
        let text = self.internet.place.run(async {
            proxy_client().close().await?;
            whole(|from| async move { proxy_client().record(Record::Audit, from).await }).await
        })?;
        let mut chain = Chain::default();
        chain.push(text.as_bytes());
        Ok(chain.finish())
    }

    /// The proxy's account.
    pub fn ledger(&self) -> anyhow::Result<Ledger> {
        Ok(self.internet.place.run(async { proxy_client().ledger().await })?)
    }

    /// What the proxy counted.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(self
            .internet
            .place
            .run(async { proxy_client().metrics().await })?)
    }

    /// Lets the proxy connect to these addresses.
    pub fn probe(&self, addresses: &[&str]) -> anyhow::Result<Vec<bool>> {
        let addresses = addresses
            .iter()
            .map(|address| address.parse())
            .collect::<Result<_, _>>()?;
        let probe = Probe {
            addresses,
            patience_ms: 500,
        };
        Ok(self
            .internet
            .place
            .run(async move { proxy_client().probe(&probe).await })?
            .connected)
    }

    /// Switches the phase.
    pub fn switch(&self, phase: EgressPhase) -> anyhow::Result<()> {
        let switch = Switch {
            generation: self.generation.fetch_add(1, Ordering::SeqCst),
            phase,
            step: 0,
        };
        self.internet
            .place
            .run(async move { proxy_client().switch(switch).await })?;
        Ok(())
    }

    /// The header that the control plane would sign this request to the proxy with, for an attack that has stolen it.
    pub fn stolen_signature(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<String> {
        let health = self.proxy_answer()?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
        let claim = Claim {
            sandbox: sandbox_id(),
            fence: FENCE,
            nonce: hex(&nonce),
            deadline_ms: health.monotonic_ms + 30_000,
            boot: health.boot,
            content: Some(Digest::of(body)),
        };
        let signed = Signer::new(&SEED).authorize(&claim, method, path);
        Ok(format!("{AUTH_HEADER}: {signed}\r\n"))
    }

    /// What the proxy answers to a question for its health.
    pub fn proxy_answer(&self) -> anyhow::Result<Health> {
        let asked = async { proxy_client().health().await };
        Ok(self.internet.place.run(asked)?)
    }

    /// The same where there may be no answer: it is given a second.
    pub fn proxy_answer_at_once(&self) -> anyhow::Result<Health> {
        let asked = async { tokio::time::timeout(Duration::from_secs(1), proxy_client().health()).await };
        Ok(self.internet.place.run(asked)??)
    }

    /// A connection to the proxy's control port that stays.
    pub fn keep_connection(&self) -> anyhow::Result<Kept> {
        self.internet.place.run(async {
            let stream = TcpStream::connect(SocketAddr::new(SANDBOX.into(), port::PROXY)).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Kept(Some(sender)))
        })
    }

    /// What the proxy answers by such a connection, when it takes no new ones.
    pub fn health_by(&self, kept: &mut Kept) -> anyhow::Result<Health> {
        let mut sender = kept.0.take().context("the connection has ended")?;
        let (sender, health) = self.internet.place.run(async move {
            let request = Request::get("/healthz")
                .header("host", "proxy")
                .body(Empty::new())?;
            let answer = sender.send_request(request).await?.into_body().collect().await?;
            let health = serde_json::from_slice(&answer.to_bytes())?;
            anyhow::Ok((sender, health))
        })?;
        kept.0 = Some(sender);
        Ok(health)
    }

    /// Waits until the proxy has found out by itself that it must serve nobody.
    pub fn until_unprotected(&self) -> anyhow::Result<()> {
        self.until("proxy", || async {
            proxy_client().health().await.is_ok_and(|health| !health.serving)
        })
    }

    /// Waits until the runner takes work.
    pub fn until_ready(&self) -> anyhow::Result<()> {
        self.until("runner", || async {
            runner_client().health().await.is_ok_and(|health| health.ready)
        })
    }

    /// Waits until the runner says by these words what it waits for.
    pub fn until_waiting_for(&self, words: &'static str) -> anyhow::Result<()> {
        self.until("runner", move || async move {
            let health = runner_client().health().await;
            health.is_ok_and(|health| {
                !health.ready && health.reason.is_some_and(|reason| reason.contains(words))
            })
        })
    }

    /// Waits until the runner takes nothing more.
    pub fn until_idle(&self) -> anyhow::Result<()> {
        self.until("runner", || async {
            runner_client().health().await.is_ok_and(|health| !health.ready)
        })
    }
}

/// The control plane's way to the proxy; use it at the internet's place.
pub fn proxy_client() -> ProxyClient {
    let address = SocketAddr::new(SANDBOX.into(), port::PROXY);
    ProxyClient::new(address, sandbox_id(), FENCE, &SEED)
}

/// The control plane's way to the runner; use it at the internet's place.
pub fn runner_client() -> RunnerClient {
    let address = SocketAddr::new(SANDBOX.into(), port::RUNNER);
    RunnerClient::new(address, sandbox_id(), FENCE, &SEED)
}

async fn whole<F, E>(read: impl Fn(u64) -> F) -> anyhow::Result<String>
where
    F: Future<Output = Result<bytes::Bytes, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut all = Vec::new();
    loop {
        let part = read(all.len() as u64).await?;
        if part.is_empty() {
            return Ok(String::from_utf8(all)?);
        }
        all.extend(part);
    }
}
