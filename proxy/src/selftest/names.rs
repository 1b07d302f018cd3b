//! Names that carry data out.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};

use super::{PATIENCE, Probe, Verdict};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        row: "C1",
        what: "a name nobody allowed, every record type",
        run: || Verdict::all(TYPES.map(|kind| denied(usual(), kind))),
    },
    Probe {
        row: "C1",
        what: "the same over TCP",
        run: || verdict(usual(), over_tcp(usual(), &question(RecordType::TXT))),
    },
    Probe {
        row: "C5",
        what: "another resolver",
        run: || Verdict::all([denied(ELSEWHERE, RecordType::A), denied(METADATA, RecordType::A)]),
    },
];

/// Answered by our own stub with "does not exist", or not at all: what asks further would try to find it.
fn denied(server: SocketAddr, kind: RecordType) -> Verdict {
    verdict(server, over_udp(server, &question(kind)))
}

/// The resolver that programs of this place use.
fn usual() -> SocketAddr {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named = text
        .lines()
        .find_map(|line| line.strip_prefix("nameserver ")?.trim().parse::<IpAddr>().ok());
    SocketAddr::new(named.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 53)
}

fn verdict(server: SocketAddr, answer: io::Result<Vec<u8>>) -> Verdict {
    match answer.map(|bytes| Message::from_vec(&bytes)) {
        Ok(Ok(message)) if is_ours(&message) => Verdict::Closed("refused by the sandbox itself".to_owned()),
        Ok(Ok(message)) => Verdict::Open(format!("answered: {}", message.metadata.response_code)),
        Ok(Err(error)) => Verdict::Open(format!("answered with something: {error}")),
        Err(error) => Verdict::of_failure(server, &error),
    }
}

/// Our stub says that a name does not exist without naming a zone that would say so: a resolver names one.
fn is_ours(message: &Message) -> bool {
    message.metadata.response_code == ResponseCode::NXDomain
        && message.answers.is_empty()
        && message.authorities.is_empty()
}

fn question(kind: RecordType) -> Vec<u8> {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    if let Ok(name) = Name::from_ascii("selftest.assay.invalid.") {
        query.add_query(Query::query(name, kind));
    }
    query.to_vec().unwrap_or_default()
}

fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(question)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

const TYPES: [RecordType; 6] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::SVCB,
];
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 53);
