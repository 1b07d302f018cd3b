//! The network of a build: none, or the namespace of a sandbox that has only init and proxy.
//!
//! Steps of such a build meet the same packet rules as a task, and their resolver is the proxy's. They run in the
//! builder's own containers, without the runner's user namespace: a Dockerfile is the task author's, not an agent's.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    BuildNetwork, BuildProxy, Error, SandboxRef,
    containers::{Containers, death, labels::Identity, living, remove, start, within},
};

/// Longest wait for init and proxy.
const START: Duration = Duration::from_secs(30);
/// Between two looks at a proxy that is starting.
const AGAIN: Duration = Duration::from_millis(10);

/// The container that holds the network namespace.
#[derive(Debug)]
pub(in crate::containers) struct Holder {
    id: String,
    /// Its process, as the engine's host sees it.
    pid: i64,
}

/// What a build's steps may use.
#[derive(Debug)]
pub(in crate::containers) enum Network {
    None,
    Sandbox { name: SandboxRef, init: Holder },
}

/// Starts what the network needs.
pub(super) async fn open(engine: &Containers, network: &BuildNetwork) -> Result<Network, Error> {
    match network {
        BuildNetwork::None => Ok(Network::None),
        BuildNetwork::Through(proxy) => {
            let name = SandboxRef {
                sandbox: proxy.files.proxy.sandbox,
            };
            match within("start build sandbox", START, Box::pin(sandbox(engine, proxy))).await {
                Ok(init) => Ok(Network::Sandbox { name, init }),
                Err(error) => {
                    remove::destroy(engine, name).await?;
                    Err(error)
                }
            }
        }
    }
}

impl Network {
    /// What the builder is told, beside the ordinary options: parameters of its request.
    ///
    /// Podman's builder takes no other container's network by name and says nothing about it; it takes the
    /// namespace by its path, and its resolver by address.
    pub(super) fn parameters(&self, podman: bool) -> Vec<(&'static str, String)> {
        match self {
            Self::None => vec![("networkmode", "none".to_owned())],
            Self::Sandbox { init, .. } if podman => vec![
                (
                    "nsoptions",
                    format!(
                        r#"[{{"Name":"network","Host":false,"Path":"/proc/{}/ns/net"}}]"#,
                        init.pid
                    ),
                ),
                ("dnsservers", r#"["127.0.0.1"]"#.to_owned()),
                ("dropcaps", r#"["CAP_NET_RAW"]"#.to_owned()),
            ],
            Self::Sandbox { init, .. } => vec![("networkmode", format!("container:{}", init.id))],
        }
    }

    /// Is everything alive that was started?
    pub(super) async fn is_whole(&self, engine: &Containers) -> Result<bool, Error> {
        let Self::Sandbox { name, .. } = self else {
            return Ok(true);
        };
        let state = death::evidence(engine, *name).await?;
        Ok(!state.gone && state.init.is_none() && state.proxy.is_none())
    }

    /// The network mode of the builder's containers, where the engine shows them and the mode tells them apart.
    pub(in crate::containers) fn mode(&self, podman: bool) -> Option<String> {
        match self {
            Self::Sandbox { init, .. } if !podman => Some(format!("container:{}", init.id)),
            Self::Sandbox { .. } | Self::None => None,
        }
    }

    /// Removes what was started.
    pub(super) async fn close(self, engine: &Containers) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Sandbox { name, .. } => remove::destroy(engine, name).await,
        }
    }
}

async fn sandbox(engine: &Containers, proxy: &BuildProxy) -> Result<Holder, Error> {
    let identity = Identity {
        sandbox: proxy.files.proxy.sandbox,
        run: proxy.run,
        attempt: proxy.attempt,
    };
    let (init, ports) = start::without_main(engine, identity, &proxy.files).await?;
    while !is_healthy(ports.proxy).await {
        tokio::time::sleep(AGAIN).await;
    }
    let pid = living::pid(engine, &init.id).await?;
    Ok(Holder { id: init.id, pid })
}

/// Bounded by the caller: a port that nobody serves yet is closed at once.
async fn is_healthy(address: std::net::SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n")
            .await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(&head == b"HTTP/1.1 200")
    };
    ask.await.unwrap_or(false)
}
