//! Watches the packet rules of this network namespace. The runner is an ordinary user of it, so the rules must turn its
//! connection to an address where nobody lives to the proxy, which answers with its boot id, and must refuse its UDP.
//!
//! Every probe has a hop limit of one: nothing gets past the next hop when the rules are gone.

use std::{io, net::SocketAddr, time::Duration};

use assay_core::egress::REDIRECT_PROBES;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, UdpSocket},
    time::{sleep, timeout},
};

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The rules hold, or there is no way out at all.
    Closed,
    /// A connection did not reach the proxy. A machine that is short of time shows the same.
    NotCaptured,
    /// A connection was refused. The kernel takes one for the proxy, however busy that is: the redirection is gone and
    /// the filter holds, or nobody listens where it leads.
    Refused,
    /// UDP was let out: the rules are gone for certain.
    Open,
}

/// Do the rules hold? `boot` is the proxy's.
pub(crate) async fn holds(boot: &str) -> bool {
    look(boot).await == Found::Closed
}

/// Returns, with the reason, when the rules do not hold any more. `boot` is the proxy's.
pub(crate) async fn lost(boot: &str) -> &'static str {
    let (mut missed, mut refused) = (0, 0);
    loop {
        let found = look(boot).await;
        match found {
            Found::Closed => (missed, refused) = (0, 0),
            Found::Open => return "the packet rules are gone: UDP is let out",
            Found::NotCaptured => missed += 1,
            Found::Refused => refused += 1,
        }
        if missed == MOST_MISSED || refused == MOST_REFUSED {
            return "the packet rules are gone: connections do not reach the proxy";
        }
        sleep(if found == Found::Refused { AGAIN } else { PAUSE }).await;
    }
}

async fn look(boot: &str) -> Found {
    let mut found = Found::Closed;
    for probe in REDIRECT_PROBES {
        if sends_datagram(probe).await {
            return Found::Open;
        }
        match timeout(ANSWER, reaches_proxy(probe, boot)).await {
            Ok(Ok(true)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => found = Found::Refused,
            Ok(Ok(false) | Err(_)) | Err(_) => {
                if found == Found::Closed {
                    found = Found::NotCaptured;
                }
            }
        }
    }
    found
}

/// Is the connection turned to the proxy? Without a route, or without this family, there is nothing to be turned.
async fn reaches_proxy(probe: SocketAddr, boot: &str) -> io::Result<bool> {
    let socket = if probe.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) if is_nowhere(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    limit_hops(&socket, probe)?;
    let mut stream = match socket.connect(probe).await {
        Ok(stream) => stream,
        Err(error) if is_nowhere(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut answer = vec![0; boot.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer == boot.as_bytes())
}

async fn sends_datagram(probe: SocketAddr) -> bool {
    let any: SocketAddr = if probe.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let Ok(socket) = UdpSocket::bind(any).await else {
        return false;
    };
    if limit_hops(&socket, probe).is_err() || socket.connect(SocketAddr::new(probe.ip(), 443)).await.is_err()
    {
        return false;
    }
    socket.send(b"assay").await.is_ok()
}

fn limit_hops(socket: &impl std::os::fd::AsFd, probe: SocketAddr) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let set = if probe.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4Ttl, &1)
    } else {
        setsockopt(socket, sockopt::Ipv6Ttl, &1)
    };
    set.map_err(io::Error::from)
}

fn is_nowhere(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let nowhere = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EADDRNOTAVAIL,
        Errno::EAFNOSUPPORT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| nowhere.contains(&Errno::from_raw(code)))
}

const PAUSE: Duration = Duration::from_secs(1);
/// A refusal is asked for once more: it is certain, and the workload waits meanwhile.
const AGAIN: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_secs(3);
const MOST_MISSED: u32 = 4;
const MOST_REFUSED: u32 = 2;
