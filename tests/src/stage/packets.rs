//! Every IP packet that the internet's side saw, caught below its sockets: what no server answers is seen too.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use super::Place;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, without neighbour discovery.
    Icmp,
    /// Something else, by number.
    Other(u8),
}

/// One packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Where it came from.
    pub from: IpAddr,
    /// Where it went.
    pub to: IpAddr,
    /// What it carries.
    pub transport: Transport,
    /// The port it came from; 0 where there are none.
    pub from_port: u16,
    /// The port it went to; 0 where there are none.
    pub to_port: u16,
    /// Everything above the IP header.
    pub payload: Vec<u8>,
}

/// The record.
#[derive(Debug, Clone, Default)]
pub struct Packets(Arc<Mutex<Vec<Packet>>>);

impl Packets {
    /// Begins to record at `place`.
    pub fn record(place: &Place) -> anyhow::Result<Self> {
        let packets = Self::default();
        let net = place.within(open).context("a packet socket")?;
        let record = packets.clone();
        std::thread::Builder::new()
            .name("packets".to_owned())
            .spawn(move || {
                let mut frame = vec![0; 65_536];
                // Ends with the process: the socket lives as long as this thread.
                while let Ok(length) = recv(net.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                    if let Some(packet) = parse(&frame[..length]) {
                        record.lock().push(packet);
                    }
                }
            })?;
        Ok(packets)
    }

    /// How many arrived before this call.
    pub fn count(&self, place: &Place) -> anyhow::Result<usize> {
        self.catch_up(place)?;
        Ok(self.lock().len())
    }

    /// Those from number `start` on that say something. Everything that arrived before this call is among them.
    ///
    /// A connection from before may still acknowledge what it got, and end: that is left out.
    pub fn since(&self, place: &Place, start: usize) -> anyhow::Result<Vec<Packet>> {
        self.catch_up(place)?;
        let all = self.lock();
        let (before, since) = all.split_at(start.min(all.len()));
        let older: HashSet<_> = before.iter().filter_map(Packet::connection).collect();
        let echo = |packet: &&Packet| {
            packet.data() <= TLS_END && packet.connection().is_some_and(|own| older.contains(&own))
        };
        Ok(since.iter().filter(|packet| !echo(packet)).cloned().collect())
    }

    /// Sends a marker to itself and waits until it is recorded: the queue keeps the order.
    fn catch_up(&self, place: &Place) -> anyhow::Result<()> {
        let mut mark = [0; 16];
        getrandom::fill(&mut mark).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
        place.within(move || -> anyhow::Result<()> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(&mark, socket.local_addr()?)?;
            Ok(())
        })?;
        let end = Instant::now() + Duration::from_mins(2);
        loop {
            if self
                .lock()
                .iter()
                .rev()
                .any(|packet| packet.payload.ends_with(&mark))
            {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "the packet record does not move");
            std::thread::yield_now();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Packet>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Packet {
    /// The ends of its TCP connection; `None` for what begins one.
    fn connection(&self) -> Option<(IpAddr, u16, IpAddr, u16)> {
        let begins = self.payload.get(13).is_some_and(|flags| flags & SYN != 0);
        (self.transport == Transport::Tcp && !begins).then_some((
            self.from,
            self.from_port,
            self.to,
            self.to_port,
        ))
    }

    /// How many bytes a TCP packet carries.
    fn data(&self) -> usize {
        let header = self
            .payload
            .get(12)
            .map_or(0, |words| usize::from(words >> 4) * 4);
        self.payload.len().saturating_sub(header)
    }
}

/// The flag of a TCP packet that begins a connection.
const SYN: u8 = 2;
/// What TLS 1.2 or 1.3 says at its end at most: no request fits in.
const TLS_END: usize = 31;

fn open() -> anyhow::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    Ok(socket)
}

fn parse(frame: &[u8]) -> Option<Packet> {
    let packet = frame.get(14..)?;
    let (from, to, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let v4 = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let header = usize::from(packet.first()? & 0xf) * 4;
            (
                v4(12)?.into(),
                v4(16)?.into(),
                *packet.get(9)?,
                packet.get(header..)?,
            )
        }
        [0x86, 0xdd] => {
            let v6 = |at: usize| {
                Some(Ipv6Addr::from(
                    <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
                ))
            };
            (v6(8)?.into(), v6(24)?.into(), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| {
        payload
            .get(at..at + 2)
            .map_or(0, |port| u16::from_be_bytes([port[0], port[1]]))
    };
    let kind = payload.first().copied().unwrap_or(0);
    let transport = match protocol {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        1 => Transport::Icmp,
        // Multicast listener reports and neighbour discovery are no traffic of anybody.
        58 if (130..=143).contains(&kind) => return None,
        58 => Transport::Icmp,
        // Hop-by-hop options: listener reports again.
        0 => return None,
        other => Transport::Other(other),
    };
    let (from_port, to_port) = match transport {
        Transport::Tcp | Transport::Udp => (port(0), port(2)),
        Transport::Icmp | Transport::Other(_) => (0, 0),
    };
    Some(Packet {
        from,
        to,
        transport,
        from_port,
        to_port,
        payload: payload.to_vec(),
    })
}
