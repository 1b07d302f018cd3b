//! A DNS server at every address. It records each question and answers from a table, so that a name can turn from one
//! address to another between two questions.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_proto::{
    op::{Message, MessageType, Metadata, ResponseCode},
    rr::{Name, RData, Record as Answer, RecordType, rdata},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::Record;
use crate::stage::address::{
    self, ALLOWED, ALLOWED_V6, EVIL, EVIL_V6, IMPOSTOR, METADATA, MODEL, PACKAGES, PRIVATE,
};

/// Serves UDP and TCP at every address, in the background.
pub async fn serve(record: &Record) -> anyhow::Result<()> {
    let turns = Arc::new(AtomicUsize::new(0));
    for address in address::all() {
        let socket = UdpSocket::bind(SocketAddr::new(address, 53)).await?;
        let listener = TcpListener::bind(SocketAddr::new(address, 53)).await?;
        tokio::spawn(datagrams(socket, record.clone(), Arc::clone(&turns)));
        tokio::spawn(streams(listener, record.clone(), Arc::clone(&turns)));
    }
    Ok(())
}

async fn datagrams(socket: UdpSocket, record: Record, turns: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = answer(&buffer[..length], &record, &turns) {
            drop(socket.send_to(&answer, peer).await);
        }
    }
}

async fn streams(listener: TcpListener, record: Record, turns: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (record, turns) = (record.clone(), Arc::clone(&turns));
        tokio::spawn(async move { drop(stream_of(stream, &record, &turns).await) });
    }
}

async fn stream_of(mut stream: TcpStream, record: &Record, turns: &AtomicUsize) -> std::io::Result<()> {
    loop {
        let mut question = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut question).await?;
        let answer = answer(&question, record, turns).ok_or(std::io::ErrorKind::InvalidData)?;
        stream
            .write_u16(u16::try_from(answer.len()).map_err(std::io::Error::other)?)
            .await?;
        stream.write_all(&answer).await?;
    }
}

fn answer(question: &[u8], record: &Record, turns: &AtomicUsize) -> Option<Vec<u8>> {
    let request = Message::from_vec(question).ok()?;
    let query = request.queries.first()?;
    let name = query.name().to_ascii().to_lowercase();
    let name = name.trim_end_matches('.');
    record.question(name.to_owned(), query.query_type().to_string());
    let addresses = addresses(name, turns);
    let data: Vec<RData> = match query.query_type() {
        RecordType::TXT => vec![RData::TXT(rdata::TXT::new(vec!["instructions".to_owned()]))],
        wanted => addresses
            .iter()
            .filter_map(|address| match (address, wanted) {
                (IpAddr::V4(v4), RecordType::A) => Some(RData::A(rdata::A(*v4))),
                (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(rdata::AAAA(*v6))),
                _ => None,
            })
            .collect(),
    };
    let op_code = request.metadata.op_code;
    let mut response = Message::new(request.metadata.id, MessageType::Response, op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    if addresses.is_empty() {
        response.metadata.response_code = ResponseCode::NXDomain;
        // As every real resolver does: whose word it is.
        let zone = rdata::SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, 60);
        response.authorities = vec![Answer::from_rdata(Name::root(), 1, RData::SOA(zone))];
    }
    response.answers = data
        .into_iter()
        .map(|data| Answer::from_rdata(query.name().clone(), 1, data))
        .collect();
    response.queries = request.queries.clone();
    response.to_vec().ok()
}

/// `rebind.example` shows a public address first and metadata's ever after.
fn addresses(name: &str, turns: &AtomicUsize) -> Vec<IpAddr> {
    let dressed = |text: &str| vec![text.parse().unwrap_or(IpAddr::V4(METADATA))];
    match name {
        "allowed.example" | "other.example" => vec![ALLOWED.into(), ALLOWED_V6.into()],
        "packages.example" => vec![PACKAGES.into()],
        "models.example.com" | "openai.example.com" | "anthropic.example.com" => vec![MODEL.into()],
        "broken.example.com" => vec![IMPOSTOR.into()],
        "metadata.example" => vec![METADATA.into()],
        "private.example" => vec![PRIVATE.into()],
        "loopback.example" => dressed("127.0.0.1"),
        "mapped.example" => dressed("::ffff:169.254.169.254"),
        "nat64.example" => dressed("64:ff9b::a9fe:a9fe"),
        "unique.example" => dressed("fd00:ec2::254"),
        "mixed.example" => vec![METADATA.into(), ALLOWED.into()],
        "rebind.example" => match turns.fetch_add(1, Ordering::SeqCst) {
            0 => vec![ALLOWED.into()],
            _ => vec![METADATA.into()],
        },
        name if name.ends_with(".wild.example") => vec![ALLOWED.into()],
        name if name == "evil.example" || name.ends_with(".evil.example") => {
            vec![EVIL.into(), EVIL_V6.into()]
        }
        _ => Vec::new(),
    }
}
