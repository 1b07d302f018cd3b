//! The client of port 15090.

use std::net::SocketAddr;

use assay_core::{
    control::{
        proxy::{Health, Ledger, Loaded, Metrics, Probe, Probed, Switch, Switched},
        signature::{MAC_HEADER, response_mac},
    },
    id::{Fence, SandboxId},
    wire::channel::Record,
};
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;

use super::{Caller, Error};
use crate::client;

/// Speaks to the proxy of one sandbox.
#[derive(Debug)]
pub struct ProxyClient {
    caller: Caller,
    mac_key: [u8; 32],
}

impl ProxyClient {
    /// For the proxy whose control answers at `address`. `seed` is the sandbox's.
    pub fn new(address: SocketAddr, sandbox: SandboxId, fence: Fence, seed: &[u8; 32]) -> Self {
        let caller = Caller::new(address, sandbox, fence, seed);
        Self {
            mac_key: caller.signer.mac_key(),
            caller,
        }
    }

    /// Is it there, and does it serve?
    pub async fn health(&self) -> Result<Health, Error> {
        decode(&self.caller.health().await?)
    }

    /// Switches the egress phase. The generation must be higher than every one before.
    pub async fn switch(&self, switch: Switch) -> Result<Switched, Error> {
        let body = serde_json::to_vec(&switch).map_err(|error| Error::Answer(error.to_string()))?;
        self.json(Method::POST, "/v1/phase", body.into()).await
    }

    /// Lets the proxy connect to some addresses and tells which took the connection.
    pub async fn probe(&self, probe: &Probe) -> Result<Probed, Error> {
        let body = serde_json::to_vec(probe).map_err(|error| Error::Answer(error.to_string()))?;
        self.json(Method::POST, "/v1/probe", body.into()).await
    }

    /// What it counted.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        self.json(Method::GET, "/v1/metrics", Bytes::new()).await
    }

    /// The account.
    pub async fn ledger(&self) -> Result<Ledger, Error> {
        self.json(Method::GET, "/v1/ledger", Bytes::new()).await
    }

    /// What it wrote down from an offset on, at most 1 MiB; empty at the end.
    pub async fn record(&self, record: Record, from: u64) -> Result<Bytes, Error> {
        let route = match record {
            Record::Audit => "audit",
            Record::Ledger => "log",
            Record::Recording => "recording",
        };
        self.call(Method::GET, &format!("/v1/{route}?from={from}"), Bytes::new())
            .await
    }

    /// Hands over the next bytes of the recording to answer from, at most 64 KiB. Bytes that it has already are ignored.
    pub async fn load_replay(&self, from: u64, bytes: Bytes) -> Result<Loaded, Error> {
        self.json(Method::POST, &format!("/v1/replay?from={from}"), bytes)
            .await
    }

    /// Lets it serve nobody any more and end its audit. Asked again it does nothing.
    pub async fn close(&self) -> Result<(), Error> {
        self.call(Method::POST, "/v1/close", Bytes::new())
            .await
            .map(|_| ())
    }

    /// Says that everything was fetched, so that it may end.
    pub async fn collected(&self) -> Result<(), Error> {
        self.call(Method::POST, "/v1/collected", Bytes::new())
            .await
            .map(|_| ())
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Error> {
        decode(&self.call(method, path, body).await?)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let (response, nonce) = self.caller.call(method, path, body).await?;
        let status = response.status();
        let told = response.headers().get(MAC_HEADER).cloned();
        let bytes = self.caller.client.read(response, &self.caller.url(path)).await?;
        // A refused signature has no MAC; it says nothing that could be used.
        let expected = response_mac(&self.mac_key, &nonce, status.as_u16(), &bytes);
        if status.is_success() {
            if told.is_some_and(|told| told.as_bytes() == expected.as_bytes()) {
                return Ok(bytes);
            }
            return Err(Error::Forged);
        }
        Err(client::problem(status, &bytes).into())
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Answer(error.to_string()))
}
