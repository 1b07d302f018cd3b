//! Connects to a checked address, one candidate after the other.

use std::{io, net::SocketAddr, time::Duration};

use assay_core::egress::HostName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};

use crate::resolve::{self, Resolver};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name gave no address that may be dialled.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// No address took the connection.
    #[error("no connection to {host}")]
    Connect {
        /// The name.
        host: HostName,
        /// The last failure.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The stable code in the audit.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Resolve(error) => error.reason(),
            Self::Connect { .. } => "connect_failed",
        }
    }
}

/// Connects to `host`: at most four addresses, ten seconds each.
pub async fn host(resolver: &Resolver, host: &HostName, port: u16) -> Result<TcpStream, Error> {
    let candidates = resolver.resolve(host, port).await?;
    any(&candidates).await.map_err(|source| Error::Connect {
        host: host.clone(),
        source,
    })
}

/// Connects to the first of these that takes the connection.
pub async fn any(candidates: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates.iter().take(MOST_CANDIDATES) {
        match timeout(PATIENCE, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                prepare(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// No delay, and probes that find out when the peer has vanished. Neither matters enough to fail for.
fn prepare(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(15));
    let set = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(stream).set_tcp_keepalive(&probes));
    if let Err(error) = set {
        tracing::debug!(%error, "a socket option is refused");
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const MOST_CANDIDATES: usize = 4;
