//! Packets past the redirect.

use std::{
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt, socket,
    sockopt,
};

use super::{PATIENCE, Probe, Verdict};

pub(super) const PROBES: &[Probe] = &[
    probe("B9", "IPv6 to another port", || other_port(V6, &[22, 8443])),
    probe("B10", "TCP to other ports", || {
        other_port(V4, &[22, 25, 853, 8080, 8443])
    }),
    probe("B11", "UDP to port 443", || {
        Verdict::all([datagram(V4, 443, 5), datagram(V6, 443, 5)])
    }),
    probe("B12", "TCP to a private address", || {
        other_port(PRIVATE, &[22, 6443, 10250])
    }),
    probe("B6", "a mark on a socket", mark),
    probe("B8", "a raw packet", raw),
    probe("B8", "a frame below the packet rules", frame),
    probe("B24", "an echo request", echo),
    probe("B24", "a fragmented datagram", || datagram(V4, 9999, 8_000)),
    probe("C10", "cloud metadata", || {
        Verdict::all([other_port(METADATA, &[8080]), datagram(METADATA, 53_000, 5)])
    }),
];

const fn probe(row: &'static str, what: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { row, what, run }
}

/// A captured connection is accepted by the proxy and ended by it without a byte.
fn other_port(address: IpAddr, ports: &[u16]) -> Verdict {
    Verdict::all(ports.iter().map(|port| hear(SocketAddr::new(address, *port))))
}

fn hear(target: SocketAddr) -> Verdict {
    let listen = || {
        let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0; 1])
    };
    match listen() {
        Ok(0) => Verdict::Closed("ended without an answer".to_owned()),
        Ok(_) => Verdict::Open("somebody answered".to_owned()),
        Err(error) => Verdict::of_failure(target, &error),
    }
}

fn datagram(address: IpAddr, port: u16, size: usize) -> Verdict {
    let send = || {
        let any: IpAddr = if address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.send_to(&vec![b'x'; size], (address, port))
    };
    Verdict::fails(send())
}

fn mark() -> Verdict {
    let set = || {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        setsockopt(&socket, sockopt::Mark, &0x1337)
    };
    Verdict::fails(set().map_err(io::Error::from))
}

fn raw() -> Verdict {
    let send = || {
        let raw = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Icmp,
        )?;
        let target = SockaddrIn::new(192, 0, 2, 1, 0);
        sendto(raw.as_raw_fd(), &ECHO_V4, &target, MsgFlags::empty())
    };
    Verdict::fails(send().map_err(io::Error::from))
}

fn frame() -> Verdict {
    let open = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    );
    Verdict::fails(open.map_err(io::Error::from))
}

/// By a socket that needs no right. Only IPv4 tells the sender that its request was refused.
fn echo() -> Verdict {
    let send = || {
        let ping = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Icmp,
        )?;
        let target = SockaddrIn::new(192, 0, 2, 1, 0);
        sendto(ping.as_raw_fd(), &ECHO_V4, &target, MsgFlags::empty())
    };
    Verdict::fails(send().map_err(io::Error::from))
}

const ECHO_V4: [u8; 8] = [8, 0, 0, 0, 0, 1, 0, 1];
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254));
