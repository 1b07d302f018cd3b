//! A temporary route by rtnetlink: one test address to lo, for families that lead nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::{libc, sys::socket::SockProtocol};

use crate::netlink::{ACK, Attributes, CREATE, Error, Message, REPLACE, Socket};

/// Adds the route of `address` to lo.
pub fn add(address: IpAddr) -> Result<(), Error> {
    send(NEW_ROUTE, CREATE | REPLACE, address)
}

/// Removes it.
pub fn remove(address: IpAddr) -> Result<(), Error> {
    send(DELETE_ROUTE, 0, address)
}

fn send(kind: u16, flags: u16, address: IpAddr) -> Result<(), Error> {
    let (family, octets, source, scope) = match address {
        IpAddr::V4(v4) => (
            libc::AF_INET,
            v4.octets().to_vec(),
            Ipv4Addr::LOCALHOST.octets().to_vec(),
            SCOPE_HOST,
        ),
        IpAddr::V6(v6) => (
            libc::AF_INET6,
            v6.octets().to_vec(),
            Ipv6Addr::LOCALHOST.octets().to_vec(),
            SCOPE_UNIVERSE,
        ),
    };
    let bits = u8::try_from(octets.len() * 8).unwrap_or(u8::MAX);
    let family = u8::try_from(family).unwrap_or(0);
    let mut header = vec![family, bits, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, scope, UNICAST];
    header.extend([0; 4]);
    let message = Message {
        kind,
        flags: flags | ACK,
        header,
        attributes: Attributes::new()
            .bytes(DESTINATION, &octets)
            .bytes(OUT_INTERFACE, &LOOPBACK_INDEX.to_ne_bytes())
            .bytes(PREFERRED_SOURCE, &source),
    };
    Socket::open(SockProtocol::NetlinkRoute)?.transact(&[message], 0)
}

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
/// 127.0.0.1 is of this scope; a wider route would not choose it as the source.
const SCOPE_HOST: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const UNICAST: u8 = 1;
const DESTINATION: u16 = 1;
const OUT_INTERFACE: u16 = 4;
const PREFERRED_SOURCE: u16 = 7;
/// lo is the first interface of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
