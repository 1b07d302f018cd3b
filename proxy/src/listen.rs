//! The sockets of the proxy.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use assay_core::egress::port;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// For the workload: loopback only.
    pub workload: Vec<IpAddr>,
    /// For the control plane, which comes from outside.
    pub control: Vec<IpAddr>,
    /// The ports.
    pub ports: Ports,
}

/// The ports of the listeners; 0 takes a free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// Captured TLS.
    pub tls: u16,
    /// Captured port 80.
    pub http: u16,
    /// Other captured TCP.
    pub other: u16,
    /// Captured DNS.
    pub dns: u16,
    /// The model API.
    pub model: u16,
    /// Control.
    pub control: u16,
}

impl Addresses {
    /// As the packet rules of a sandbox expect it.
    pub fn sandbox() -> Self {
        Self {
            workload: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            control: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            ports: Ports {
                tls: port::TLS,
                http: port::HTTP,
                other: port::OTHER_TCP,
                dns: port::DNS,
                model: port::MODEL_API,
                control: port::PROXY,
            },
        }
    }

    /// Free ports on IPv4 loopback.
    pub fn loopback() -> Self {
        Self {
            workload: vec![Ipv4Addr::LOCALHOST.into()],
            control: vec![Ipv4Addr::LOCALHOST.into()],
            ports: Ports::default(),
        }
    }
}

/// Where a listener is, by its first address.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Captured TLS.
    pub tls: SocketAddr,
    /// Captured port 80.
    pub http: SocketAddr,
    /// Other captured TCP.
    pub other: SocketAddr,
    /// Captured DNS over UDP.
    pub dns: SocketAddr,
    /// Captured DNS over TCP.
    pub dns_tcp: SocketAddr,
    /// The model API.
    pub model: SocketAddr,
}

/// The listeners for the workload.
#[derive(Debug)]
pub struct Workload {
    /// Captured TLS.
    pub tls: Vec<TcpListener>,
    /// Captured port 80.
    pub http: Vec<TcpListener>,
    /// Other captured TCP.
    pub other: Vec<TcpListener>,
    /// Captured DNS over UDP.
    pub dns: Vec<UdpSocket>,
    /// Captured DNS over TCP.
    pub dns_tcp: Vec<TcpListener>,
    /// The model API.
    pub model: Vec<TcpListener>,
}

/// A listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on port {port}")]
pub struct Error {
    port: u16,
    #[source]
    source: io::Error,
}

impl Workload {
    /// Opens all of them.
    pub fn open(addresses: &Addresses) -> Result<Self, Error> {
        let open = |port| tcp(&addresses.workload, port);
        let ports = addresses.ports;
        Ok(Self {
            tls: open(ports.tls)?,
            http: open(ports.http)?,
            other: open(ports.other)?,
            dns: udp(&addresses.workload, ports.dns)?,
            dns_tcp: open(ports.dns)?,
            model: open(ports.model)?,
        })
    }

    /// Where they are.
    pub fn bound(&self) -> io::Result<Bound> {
        Ok(Bound {
            tls: first(&self.tls)?,
            http: first(&self.http)?,
            other: first(&self.other)?,
            dns: self.dns.first().ok_or_else(nowhere)?.local_addr()?,
            dns_tcp: first(&self.dns_tcp)?,
            model: first(&self.model)?,
        })
    }
}

/// The listeners for the control plane.
pub fn control(addresses: &Addresses) -> Result<Vec<TcpListener>, Error> {
    tcp(&addresses.control, addresses.ports.control)
}

/// Where the first of these is.
pub fn first(listeners: &[TcpListener]) -> io::Result<SocketAddr> {
    listeners.first().ok_or_else(nowhere)?.local_addr()
}

fn nowhere() -> io::Error {
    io::ErrorKind::AddrNotAvailable.into()
}

fn tcp(addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>, Error> {
    each(addresses, port, |address| {
        let socket = bind(address, Type::STREAM, Protocol::TCP)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    })
}

fn udp(addresses: &[IpAddr], port: u16) -> Result<Vec<UdpSocket>, Error> {
    each(addresses, port, |address| {
        UdpSocket::from_std(bind(address, Type::DGRAM, Protocol::UDP)?.into())
    })
}

/// A family that the sandbox does not have is left out, but one must be there.
fn each<T>(
    addresses: &[IpAddr],
    port: u16,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, Error> {
    let mut opened = Vec::new();
    for address in addresses {
        match open(SocketAddr::new(*address, port)) {
            Ok(listener) => opened.push(listener),
            Err(error) if address.is_ipv6() && is_absent(&error) => {}
            Err(source) => return Err(Error { port, source }),
        }
    }
    if opened.is_empty() {
        let source = nowhere();
        return Err(Error { port, source });
    }
    Ok(opened)
}

fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || code == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

const BACKLOG: i32 = 1024;
