//! Proves that the rules hold before anything runs under them: a random token must come back through each redirect to
//! an ordinary user and must not reach the proxy's user; UDP 443 must be refused. Once per address family.
//!
//! Other users are taken on by the file-system user id of this thread: it is what the kernel writes on a new socket and
//! what the rules compare. Every probe has a hop limit of one, so that nothing gets past the next hop should a rule fail.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use assay_core::{
    control::init::FamilyState,
    egress::{PROXY_UID, port},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout},
    sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt},
    unistd::{Uid, setfsuid},
};

use crate::{netlink, route};

/// Why the rules are not proven.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something listens where the proxy will.
    #[error("port {0} is taken")]
    PortTaken(SocketAddr),
    /// The token did not come back.
    #[error("{what} of an ordinary user to {target} did not arrive at port {port}")]
    NotCaptured {
        /// TCP or UDP.
        what: &'static str,
        /// What was dialled.
        target: SocketAddr,
        /// Where it had to arrive.
        port: u16,
    },
    /// The proxy would talk to itself.
    #[error("a connection of the proxy's user to {0} was captured")]
    ExemptCaptured(SocketAddr),
    /// QUIC would leave.
    #[error("UDP to {0} was let out")]
    UdpPassed(SocketAddr),
    /// Neither 127.0.0.1 nor `::1` exists.
    #[error("neither 127.0.0.1 nor ::1 exists here (is lo up?)")]
    NoFamily,
    /// We may not act as another user.
    #[error("cannot act as user {0} (CAP_SETUID is missing)")]
    Permission(u32),
    /// The temporary route failed.
    #[error("temporary route: {0}")]
    Netlink(#[from] netlink::Error),
    /// Something else failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// What was found of both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub ipv4: FamilyState,
    /// IPv6.
    pub ipv6: FamilyState,
}

/// Proves both families with `token`, which nobody else can know.
pub fn prove(token: &Token) -> Result<Families, Error> {
    let ipv4 = family(IpAddr::V4(Ipv4Addr::LOCALHOST), TEST_IPV4, token)?;
    let ipv6 = family(IpAddr::V6(Ipv6Addr::LOCALHOST), TEST_IPV6, token)?;
    if (ipv4, ipv6) == (FamilyState::Disabled, FamilyState::Disabled) {
        return Err(Error::NoFamily);
    }
    Ok(Families { ipv4, ipv6 })
}

/// What has to come back.
pub type Token = [u8; 16];

fn family(loopback: IpAddr, test: IpAddr, token: &Token) -> Result<FamilyState, Error> {
    let Some(listeners) = Listeners::bind(loopback)? else {
        return Ok(FamilyState::Disabled);
    };
    if has_route(test)? {
        udp_is_refused(test)?;
        listeners.prove(test, token)?;
    } else {
        // Without a route nothing leaves: only the redirects are left to prove.
        route::add(test)?;
        let proven = listeners.prove(test, token);
        let removed = route::remove(test);
        proven?;
        removed?;
    }
    Ok(FamilyState::Proven)
}

/// Stands where the proxy will.
struct Listeners {
    tls: TcpListener,
    http: TcpListener,
    other: TcpListener,
    dns: TcpListener,
    dns_udp: UdpSocket,
}

impl Listeners {
    /// `None` where the family does not exist.
    fn bind(address: IpAddr) -> Result<Option<Self>, Error> {
        let tcp = |port| {
            let address = SocketAddr::new(address, port);
            TcpListener::bind(address).map_err(|error| (address, error))
        };
        let bind = || {
            let dns = SocketAddr::new(address, port::DNS);
            Ok(Self {
                tls: tcp(port::TLS)?,
                http: tcp(port::HTTP)?,
                other: tcp(port::OTHER_TCP)?,
                dns: tcp(port::DNS)?,
                dns_udp: UdpSocket::bind(dns).map_err(|error| (dns, error))?,
            })
        };
        match bind() {
            Ok(listeners) => Ok(Some(listeners)),
            Err((address, error)) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::PortTaken(address))
            }
            Err((_, error)) if absent(&error) => Ok(None),
            Err((_, error)) => Err(system("binding a port of the proxy")(error)),
        }
    }

    fn prove(&self, test: IpAddr, token: &Token) -> Result<(), Error> {
        let target = SocketAddr::new(test, 443);
        // First, so that it has the time of all others to arrive wrongly.
        let exempt = dial(target, PROXY_UID)?;
        let exempt_address = local_address(&exempt)?;
        for (listener, dialled, port) in [
            (&self.tls, 443, port::TLS),
            (&self.http, 80, port::HTTP),
            (&self.other, OTHER_PORT, port::OTHER_TCP),
            (&self.dns, 53, port::DNS),
        ] {
            let target = SocketAddr::new(test, dialled);
            let missed = || Error::NotCaptured {
                what: "TCP",
                target,
                port,
            };
            captured(listener, target, exempt_address, token, missed)?;
        }
        self.dns_captured(SocketAddr::new(test, 53), token)?;
        self.tls.set_nonblocking(true).map_err(system("listener"))?;
        while let Ok((_, peer)) = self.tls.accept() {
            if Some(peer) == exempt_address {
                return Err(Error::ExemptCaptured(target));
            }
        }
        Ok(())
    }

    fn dns_captured(&self, target: SocketAddr, token: &Token) -> Result<(), Error> {
        let missed = || Error::NotCaptured {
            what: "UDP",
            target,
            port: port::DNS,
        };
        let client = UdpSocket::from(open(target, SockType::Datagram, ORDINARY_UID)?);
        client.connect(target).map_err(system("UDP to port 53"))?;
        client.set_read_timeout(Some(PATIENCE)).map_err(system("UDP"))?;
        self.dns_udp
            .set_read_timeout(Some(PATIENCE))
            .map_err(system("UDP"))?;
        let mut heard = Token::default();
        client.send(token).map_err(|_| missed())?;
        let (_, peer) = self.dns_udp.recv_from(&mut heard).map_err(|_| missed())?;
        if heard != *token {
            return Err(missed());
        }
        heard.reverse();
        self.dns_udp.send_to(&heard, peer).map_err(|_| missed())?;
        let mut answer = Token::default();
        client.recv(&mut answer).map_err(|_| missed())?;
        if answer == heard { Ok(()) } else { Err(missed()) }
    }
}

/// An ordinary user dials `target`, and `listener` must hand it the token.
fn captured(
    listener: &TcpListener,
    target: SocketAddr,
    exempt: Option<SocketAddr>,
    token: &Token,
    missed: impl Fn() -> Error,
) -> Result<(), Error> {
    let client = TcpStream::from(dial(target, ORDINARY_UID)?);
    listener.set_nonblocking(true).map_err(system("listener"))?;
    let mut server = loop {
        if !readable(listener)? {
            return Err(missed());
        }
        match listener.accept() {
            // Known by the token and not by its port: the kernel gives a redirected connection another one where an
            // earlier connection from the same port, of a proof just before, was led here. And it may give this one the
            // port of the exempt connection, which goes to another port of the target: so the token is asked for first.
            Ok((stream, _)) if hands_over(&client, &stream, token)? => break stream,
            Ok((_, from)) if Some(from) == exempt => return Err(Error::ExemptCaptured(target)),
            // Somebody else's connection.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(system("accepting")(error)),
        }
    };
    let mut answer = *token;
    answer.reverse();
    server.write_all(&answer).map_err(|_| missed())?;
    if hears(&client, &answer)? {
        Ok(())
    } else {
        Err(missed())
    }
}

/// Does `server` hear the token that `client` says?
fn hands_over(mut client: &TcpStream, server: &TcpStream, token: &Token) -> Result<bool, Error> {
    // Fails where the client is not connected to anybody yet.
    Ok(client.write_all(token).is_ok() && hears(server, token)?)
}

fn hears(mut stream: &TcpStream, token: &Token) -> Result<bool, Error> {
    stream.set_nonblocking(false).map_err(system("connection"))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(system("connection"))?;
    let mut heard = Token::default();
    Ok(stream.read_exact(&mut heard).is_ok() && heard == *token)
}

fn udp_is_refused(test: IpAddr) -> Result<(), Error> {
    let target = SocketAddr::new(test, 443);
    let socket = UdpSocket::from(open(target, SockType::Datagram, ORDINARY_UID)?);
    socket.connect(target).map_err(system("UDP to port 443"))?;
    match socket.send(b"probe") {
        // The reject rule answers within the send.
        Err(error) if REFUSALS.contains(&errno(&error)) => Ok(()),
        Err(error) => Err(system("UDP to port 443")(error)),
        Ok(_) => Err(Error::UdpPassed(target)),
    }
}

/// Asks the routing table without sending anything.
fn has_route(test: IpAddr) -> Result<bool, Error> {
    let socket = UdpSocket::from(open(
        SocketAddr::new(test, 443),
        SockType::Datagram,
        ORDINARY_UID,
    )?);
    match socket.connect(SocketAddr::new(test, 443)) {
        Ok(()) => Ok(true),
        Err(error) if NO_ROUTE.contains(&errno(&error)) => Ok(false),
        Err(error) => Err(system("route lookup")(error)),
    }
}

/// Begins to connect as `user`.
fn dial(target: SocketAddr, user: u32) -> Result<OwnedFd, Error> {
    let fd = open(target, SockType::Stream, user)?;
    // No TIME_WAIT is left on the proxy's ports.
    let abort = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    socket::setsockopt(&fd, sockopt::Linger, &abort).map_err(|errno| system("linger")(errno.into()))?;
    match as_user(user, || {
        socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(target))
    })? {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(system("connecting")(errno.into())),
    }
}

fn open(target: SocketAddr, kind: SockType, user: u32) -> Result<OwnedFd, Error> {
    let (family, stream) = match target {
        SocketAddr::V4(_) => (AddressFamily::Inet, kind == SockType::Stream),
        SocketAddr::V6(_) => (AddressFamily::Inet6, kind == SockType::Stream),
    };
    let flags = if stream {
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
    } else {
        SockFlag::SOCK_CLOEXEC
    };
    let failed = |errno: Errno| system("probe socket")(errno.into());
    let fd = as_user(user, || socket::socket(family, kind, flags, None))?.map_err(failed)?;
    match target {
        SocketAddr::V4(_) => socket::setsockopt(&fd, sockopt::Ipv4Ttl, &1),
        SocketAddr::V6(_) => socket::setsockopt(&fd, sockopt::Ipv6Ttl, &1),
    }
    .map_err(failed)?;
    Ok(fd)
}

/// Does `act` with the file-system user id `user` and takes the old one back.
fn as_user<T>(user: u32, act: impl FnOnce() -> T) -> Result<T, Error> {
    let before = setfsuid(Uid::from_raw(user));
    // Asking with an impossible id changes nothing and tells the id in force.
    let now = setfsuid(Uid::from_raw(u32::MAX));
    if now.as_raw() != user {
        return Err(Error::Permission(user));
    }
    let result = act();
    setfsuid(before);
    Ok(result)
}

fn local_address(fd: &OwnedFd) -> Result<Option<SocketAddr>, Error> {
    let address: SockaddrStorage =
        socket::getsockname(fd.as_raw_fd()).map_err(|errno| system("own address")(errno.into()))?;
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    let v6 = address
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::new(IpAddr::V6(v6.ip()), v6.port()));
    Ok(v4.or(v6))
}

fn readable(listener: &TcpListener) -> Result<bool, Error> {
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO);
    nix::poll::poll(&mut waiting, timeout)
        .map(|ready| ready > 0)
        .map_err(|errno| system("waiting for a connection")(errno.into()))
}

fn absent(error: &io::Error) -> bool {
    [Errno::EADDRNOTAVAIL, Errno::EAFNOSUPPORT].contains(&errno(error))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Somebody without rights: `nobody` on every system.
const ORDINARY_UID: u32 = 65534;
/// Addresses for documentation, where nobody lives (RFC 5737, RFC 3849).
const TEST_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const TEST_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// A TCP port without a rule of its own.
const OTHER_PORT: u16 = 22;
/// A redirect arrives at once; a machine under load may drop a first packet, and the kernel sends it again after a second.
const PATIENCE: Duration = Duration::from_secs(3);
const REFUSALS: [Errno; 3] = [Errno::EPERM, Errno::ECONNREFUSED, Errno::EACCES];
const NO_ROUTE: [Errno; 4] = [
    Errno::ENETUNREACH,
    Errno::EHOSTUNREACH,
    Errno::EADDRNOTAVAIL,
    Errno::EACCES,
];
