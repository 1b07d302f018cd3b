//! How runner and proxy control of a pod are reached: at the pod's own address, or through the API server.
//!
//! The first sandbox decides by trying: inside of the cluster and on its nodes pod addresses answer, elsewhere they do not.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use assay_core::{egress::port, id::SandboxId};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::{labels, settings::Reach};
use crate::Error;

/// Where the two control interfaces of a sandbox answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub runner: SocketAddr,
    pub proxy: SocketAddr,
}

/// The way that was found, and the ports that are forwarded.
#[derive(Debug, Default)]
pub(super) struct Ways {
    direct: OnceLock<bool>,
    forwarded: Mutex<HashMap<SandboxId, Forwarded>>,
}

#[derive(Debug)]
struct Forwarded {
    addresses: Addresses,
    tasks: [AbortHandle; 2],
}

impl Ways {
    pub(super) fn new(reach: Reach) -> Self {
        let ways = Self::default();
        match reach {
            Reach::Probe => {}
            Reach::Direct => ways.decide(true),
            Reach::Forward => ways.decide(false),
        }
        ways
    }

    /// Is it known that pods answer at their own addresses?
    pub(super) fn known(&self) -> Option<bool> {
        self.direct.get().copied()
    }

    /// The first answer counts.
    pub(super) fn decide(&self, direct: bool) {
        if self.direct.set(direct).is_ok() {
            let way = if direct {
                "at pod addresses"
            } else {
                "by port-forward"
            };
            tracing::info!("runner and proxy control are reached {way}");
        }
    }

    /// Where the control interfaces of a running pod answer.
    pub(super) async fn addresses(
        &self,
        pods: &Api<Pod>,
        sandbox: SandboxId,
        ip: IpAddr,
    ) -> Result<Addresses, Error> {
        if self.known().is_none() {
            self.decide(answers(ip, PROBE).await);
        }
        if self.known() == Some(true) {
            return Ok(direct(ip));
        }
        if let Some(known) = self.table().get(&sandbox) {
            return Ok(known.addresses);
        }
        let (runner, first) = forward(pods, sandbox, port::RUNNER).await?;
        let (proxy, second) = forward(pods, sandbox, port::PROXY).await?;
        let made = Forwarded {
            addresses: Addresses { runner, proxy },
            tasks: [first, second],
        };
        let mut table = self.table();
        // Somebody else may have been here first.
        if let Some(known) = table.get(&sandbox) {
            made.end();
            return Ok(known.addresses);
        }
        let addresses = made.addresses;
        table.insert(sandbox, made);
        Ok(addresses)
    }

    /// Ends what was forwarded for a sandbox.
    pub(super) fn forget(&self, sandbox: SandboxId) {
        if let Some(known) = self.table().remove(&sandbox) {
            known.end();
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<SandboxId, Forwarded>> {
        self.forwarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        for known in self.table().values() {
            known.end();
        }
    }
}

impl Forwarded {
    fn end(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// At the pod's own address.
pub(super) fn direct(ip: IpAddr) -> Addresses {
    Addresses {
        runner: SocketAddr::new(ip, port::RUNNER),
        proxy: SocketAddr::new(ip, port::PROXY),
    }
}

/// Does a runner answer at this address, within this time? Asked again and again: it may just be starting.
pub(super) async fn answers(ip: IpAddr, patience: Duration) -> bool {
    let asking = async {
        while health(direct(ip).runner).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(patience, asking).await.is_ok()
}

/// Any whole answer will do: that of the runner's health, ready or not.
async fn health(runner: SocketAddr) -> std::io::Result<()> {
    let ask = async {
        let mut stream = TcpStream::connect(runner).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: runner\r\nconnection: close\r\n\r\n")
            .await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    let head = tokio::time::timeout(ONE_ANSWER, ask).await??;
    if head.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(std::io::Error::other("it is no runner"))
    }
}

/// A port of ours on the loopback for one of the pod. Each connection is a stream of its own through the API server.
async fn forward(pods: &Api<Pod>, sandbox: SandboxId, port: u16) -> Result<(SocketAddr, AbortHandle), Error> {
    let listen = async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    let (listener, address) = listen.await.map_err(|error| Error::Unavailable {
        operation: "forward a port",
        message: error.to_string(),
    })?;
    let (pods, name) = (pods.clone(), labels::name(sandbox));
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (pods, name) = (pods.clone(), name.clone());
            tokio::spawn(async move {
                if let Err(error) = carry(&pods, &name, port, stream).await {
                    tracing::debug!(%error, name, port, "a forwarded connection ended");
                }
            });
        }
    });
    Ok((address, task.abort_handle()))
}

async fn carry(pods: &Api<Pod>, name: &str, port: u16, mut local: TcpStream) -> Result<(), String> {
    let mut forwarder = pods.portforward(name, &[port]).await.map_err(|e| e.to_string())?;
    let mut remote = forwarder
        .take_stream(port)
        .ok_or("the cluster opened no stream")?;
    let copied = copy_bidirectional(&mut local, &mut remote).await;
    drop(remote);
    forwarder.join().await.map_err(|e| e.to_string())?;
    copied.map(|_| ()).map_err(|e| e.to_string())
}

/// A running pod that does not answer in this time is not reached at its address.
/// One round of asking; how long does not matter to who asks again.
pub(super) const ROUND: Duration = Duration::from_secs(5);
const PROBE: Duration = Duration::from_secs(2);
const ONE_ANSWER: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(20);
