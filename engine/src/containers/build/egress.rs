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
    containers::{Containers, labels::Identity, remove, start, within},
};

/// Longest wait for init and proxy.
const START: Duration = Duration::from_secs(30);
/// Between two looks at a proxy that is starting.
const AGAIN: Duration = Duration::from_millis(10);

/// What a build's steps may use.
#[derive(Debug)]
pub(super) enum Network {
    None,
    Sandbox { name: SandboxRef, init: String },
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
    /// What the builder is told.
    pub(super) fn mode(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Sandbox { init, .. } => format!("container:{init}"),
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

async fn sandbox(engine: &Containers, proxy: &BuildProxy) -> Result<String, Error> {
    let identity = Identity {
        sandbox: proxy.files.proxy.sandbox,
        run: proxy.run,
        attempt: proxy.attempt,
    };
    let (init, ports) = start::without_main(engine, identity, &proxy.files).await?;
    while !is_healthy(ports.proxy).await {
        tokio::time::sleep(AGAIN).await;
    }
    Ok(init.id)
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
