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

/// What one look at the connections found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// They are turned to the proxy, or there is no way out at all.
    Closed,
    /// One did not reach the proxy. A machine that is short of time shows the same.
    NotCaptured,
    /// One was refused. The kernel takes one for the proxy, however busy that is: the redirection is gone and the
    /// filter holds, or nobody listens where it leads.
    Refused,
}

/// Do the rules hold? `boot` is the proxy's.
pub(crate) async fn holds(boot: &str) -> bool {
    !lets_out().await && look(boot).await == Found::Closed
}

/// Returns, with the reason, when the rules do not hold any more. `boot` is the proxy's.
///
/// Both are watched side by side: a connection that is under way just when the rules go is waited for in vain, and
/// nothing else is to wait meanwhile.
pub(crate) async fn lost(boot: &str) -> &'static str {
    tokio::select! {
        // cancel-safe: each only looks.
        () = let_out() => "the packet rules are gone: UDP is let out",
        () = led_astray(boot) => "the packet rules are gone: connections do not reach the proxy",
    }
}

/// Returns when UDP was let out: the rules are gone for certain.
async fn let_out() {
    while !lets_out().await {
        sleep(PAUSE).await;
    }
}

async fn lets_out() -> bool {
    for probe in REDIRECT_PROBES {
        if sends_datagram(probe).await {
            return true;
        }
    }
    false
}

/// Returns when connections were missed or refused too often to be chance.
async fn led_astray(boot: &str) {
    let (mut missed, mut refused) = (0, 0);
    loop {
        let found = look(boot).await;
        match found {
            Found::Closed => (missed, refused) = (0, 0),
            Found::NotCaptured => missed += 1,
            Found::Refused => refused += 1,
        }
        if missed == MOST_MISSED || refused == MOST_REFUSED {
            return;
        }
        sleep(if found == Found::Refused { AGAIN } else { PAUSE }).await;
    }
}

async fn look(boot: &str) -> Found {
    let mut found = Found::Closed;
    for probe in REDIRECT_PROBES {
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
