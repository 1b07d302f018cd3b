//! Packets past the redirect.

use std::{
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
        setsockopt, socket, sockopt,
    },
};

use super::{PATIENCE, Probe, Verdict};

pub(super) const PROBES: &[Probe] = &[
    probe("B7", "asking the packet filter for its rules", rules),
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
        Verdict::all([
            other_port(METADATA, &[8080]),
            datagram(METADATA, 53_000, 5),
            other_port(METADATA_V6, &[8080]),
        ])
    }),
    probe("C4", "DNS over TLS", || other_port(V4, &[853])),
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

/// Who may read them may write them: the kernel asks for the same right.
fn rules() -> Verdict {
    let ask = || {
        let filter = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        sendto(
            filter.as_raw_fd(),
            &list_tables(),
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        let mut answer = [0; 4096];
        let length = recv(filter.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        Ok::<_, Errno>(answer.get(..length).and_then(refusal))
    };
    match ask() {
        Ok(None) => Verdict::Open("it worked".to_owned()),
        Ok(Some(error)) | Err(error) => Verdict::Closed(io::Error::from(error).to_string()),
    }
}

/// A dump of the tables of every family: length, kind, flags, number and sender of the message, then no family.
fn list_tables() -> Vec<u8> {
    let (length, kind, flags) = (
        20_u32.to_ne_bytes(),
        NFT_MSG_GETTABLE.to_ne_bytes(),
        DUMP.to_ne_bytes(),
    );
    [length.as_slice(), &kind, &flags, &[0; 12]].concat()
}

/// The error in an answer of the kernel; `None` when it is none.
fn refusal(answer: &[u8]) -> Option<Errno> {
    let (kind, error) = (answer.get(4..6)?, answer.get(16..20)?);
    let number = i32::from_ne_bytes(error.try_into().ok()?);
    (kind == NLMSG_ERROR.to_ne_bytes() && number != 0).then(|| Errno::from_raw(-number))
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

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE`
const NFT_MSG_GETTABLE: u16 = 0x0a01;
/// `NLM_F_DUMP | NLM_F_REQUEST`
const DUMP: u16 = 0x0301;
const NLMSG_ERROR: u16 = 2;
const ECHO_V4: [u8; 8] = [8, 0, 0, 0, 0, 1, 0, 1];
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
const METADATA_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254));
