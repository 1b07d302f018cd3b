//! The proxy's own look-ups: name to checked socket address. It asks only the resolvers that came with the assignment.
//!
//! Fixed addresses, the operator's word, go unchecked. Every address that a lookup gives is checked, and what is dialled
//! is that very address: there is no second lookup that could answer otherwise.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use assay_core::egress::HostName;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{address, dns::Families};

/// Looks names up.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    fixed: BTreeMap<HostName, SocketAddr>,
    families: Families,
    cache: Mutex<BTreeMap<HostName, Cached>>,
    silent: AtomicBool,
}

#[derive(Debug, Clone)]
struct Cached {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// Why there is no address to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name does not exist or has no address.
    #[error("the name has no address")]
    NoAddress,
    /// No resolver answered in time.
    #[error("no resolver answered")]
    NoResolver,
    /// Every address is private, local or reserved.
    #[error("the name has only addresses that are not of the public internet")]
    NotGlobal,
}

impl Error {
    /// The stable code in the audit.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::NoResolver => "no_resolver",
            Self::NotGlobal => "address_not_global",
        }
    }
}

impl Resolver {
    /// Asks `servers`, after `fixed`.
    pub fn new(servers: Vec<SocketAddr>, fixed: BTreeMap<HostName, SocketAddr>, families: Families) -> Self {
        Self {
            servers,
            fixed,
            families,
            cache: Mutex::new(BTreeMap::new()),
            silent: AtomicBool::new(false),
        }
    }

    /// Did no server answer the last question?
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Is the address of `host` the operator's word?
    pub fn is_fixed(&self, host: &HostName) -> bool {
        self.fixed.contains_key(host)
    }

    /// The addresses that may be dialled for `host`, best first. A fixed address brings its own port.
    pub async fn resolve(&self, host: &HostName, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if let Some(fixed) = self.fixed.get(host) {
            return Ok(vec![*fixed]);
        }
        let found = match self.cached(host) {
            Some(found) => found,
            None => self.ask(host).await?,
        };
        let local = address::local();
        let checked: Vec<SocketAddr> = found
            .into_iter()
            .filter(|found| address::is_global(*found) && !local.contains(found))
            .map(|found| SocketAddr::new(found, port))
            .collect();
        if checked.is_empty() {
            Err(Error::NotGlobal)
        } else {
            Ok(checked)
        }
    }

    async fn ask(&self, host: &HostName) -> Result<Vec<IpAddr>, Error> {
        let (v4, v6) = tokio::join!(
            self.ask_family(host, RecordType::A, self.families.v4),
            self.ask_family(host, RecordType::AAAA, self.families.v6)
        );
        let failed = v4.is_err() || v6.is_err();
        self.silent.store(failed, Ordering::Relaxed);
        let (v4, v6) = (v4.unwrap_or_default(), v6.unwrap_or_default());
        let seconds = v4.seconds.min(v6.seconds).clamp(LEAST_TTL, MOST_TTL);
        let addresses = [v4.addresses, v6.addresses].concat();
        if addresses.is_empty() {
            return Err(if failed {
                Error::NoResolver
            } else {
                Error::NoAddress
            });
        }
        self.keep(host, &addresses, seconds);
        Ok(addresses)
    }

    async fn ask_family(&self, host: &HostName, record: RecordType, wanted: bool) -> Result<Found, NoAnswer> {
        if !wanted {
            return Ok(Found::default());
        }
        for _ in 0..TRIES {
            for server in &self.servers {
                if let Ok(Ok(Some(found))) = timeout(PATIENCE, exchange(*server, host, record)).await {
                    return Ok(found);
                }
            }
        }
        Err(NoAnswer)
    }

    fn cached(&self, host: &HostName) -> Option<Vec<IpAddr>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let found = cache.get(host)?;
        (found.until > Instant::now()).then(|| found.addresses.clone())
    }

    fn keep(&self, host: &HostName, addresses: &[IpAddr], seconds: u32) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if cache.len() >= MOST_CACHED {
            cache.retain(|_, cached| cached.until > now);
        }
        if cache.len() < MOST_CACHED {
            cache.insert(
                host.clone(),
                Cached {
                    addresses: addresses.to_vec(),
                    until: now + Duration::from_secs(u64::from(seconds)),
                },
            );
        }
    }
}

#[derive(Debug)]
struct Found {
    addresses: Vec<IpAddr>,
    seconds: u32,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            seconds: MOST_TTL,
        }
    }
}

#[derive(Debug)]
struct NoAnswer;

/// One question over UDP, and over TCP when the answer was cut. `None` when the server could not answer.
async fn exchange(server: SocketAddr, host: &HostName, record: RecordType) -> io::Result<Option<Found>> {
    let query = question(host, record)?;
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let mut answer = over_udp(server, &query, &bytes).await?;
    if answer.metadata.truncation {
        answer = over_tcp(server, &query, &bytes).await?;
    }
    let code = answer.metadata.response_code;
    Ok(if code == ResponseCode::NoError {
        Some(found(&answer))
    } else {
        (code == ResponseCode::NXDomain).then(Found::default)
    })
}

fn question(host: &HostName, record: RecordType) -> io::Result<Message> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let name = Name::from_ascii(format!("{host}.")).map_err(io::Error::other)?;
    let mut query = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, record));
    Ok(query)
}

/// A fresh port per question; an answer that does not fit the question is ignored.
async fn over_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && fits(&answer, query)
        {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    stream
        .write_u16(u16::try_from(bytes.len()).map_err(io::Error::other)?)
        .await?;
    stream.write_all(bytes).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer)
        .ok()
        .filter(|answer| fits(answer, query))
        .ok_or_else(|| io::Error::other("an answer to another question"))
}

fn fits(answer: &Message, query: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == query.queries
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only addresses matter")]
fn found(answer: &Message) -> Found {
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(v4) => Some(IpAddr::V4(v4.0)),
        RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
        _ => None,
    });
    Found {
        addresses: addresses.take(MOST_ADDRESSES).collect(),
        seconds: answer
            .answers
            .iter()
            .map(|record| record.ttl)
            .min()
            .unwrap_or(MOST_TTL),
    }
}

const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(2);
const LEAST_TTL: u32 = 5;
const MOST_TTL: u32 = 300;
const MOST_CACHED: usize = 256;
const MOST_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests;
