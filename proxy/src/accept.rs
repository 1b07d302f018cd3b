//! Takes the workload's connections and queries and hands each to its handler, under a cap on how many there are.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Event, Kind},
    dns, http80, listen,
    model::api::{self, Entrance},
    orig_dst,
    serving::Serving,
    splice, tls,
};

/// Starts to serve the workload until `stop`.
pub fn start(serving: &Arc<Serving>, listeners: listen::Workload, stop: &CancellationToken) {
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let questions = Arc::new(Semaphore::new(MOST_DNS_CONNECTIONS));
    let listen::Workload {
        tls,
        http,
        other,
        dns,
        dns_tcp,
        model,
    } = listeners;
    let ports = [
        (tls, Port::Tls, &connections),
        (http, Port::Http, &connections),
        (model, Port::Model, &connections),
        (other, Port::Other, &connections),
        (dns_tcp, Port::Dns, &questions),
    ];
    for (listeners, port, cap) in ports {
        for listener in listeners {
            let (serving, cap, stop) = (Arc::clone(serving), Arc::clone(cap), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    // cancel-safe: a connection that was not accepted yet is refused by the kernel.
                    () = accept(&serving, &listener, port, &cap) => {}
                }
            });
        }
    }
    for socket in dns {
        let (serving, stop) = (Arc::clone(serving), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                // cancel-safe: a lost query is asked again.
                () = answer_datagrams(&serving, &socket) => {}
            }
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Tls,
    Http,
    Model,
    Other,
    Dns,
}

impl Port {
    fn kind(self) -> Kind {
        match self {
            Self::Tls => Kind::Tls,
            Self::Http => Kind::Http,
            Self::Model => Kind::Model,
            Self::Other => Kind::Tcp,
            Self::Dns => Kind::Dns,
        }
    }
}

async fn accept(serving: &Arc<Serving>, listener: &TcpListener, port: Port, cap: &Arc<Semaphore>) {
    loop {
        let stream = next(listener).await;
        serving.deaf.store(stream.is_none(), Ordering::Relaxed);
        let Some(stream) = stream else {
            continue;
        };
        // Told at once, so they need no place; and the watch over the rules must get through whatever happens.
        if port == Port::Other {
            refuse(serving, &stream);
            continue;
        }
        let Ok(permit) = Arc::clone(cap).try_acquire_owned() else {
            let phase = serving.phases.current().stage.phase;
            let event = Event::deny(port.kind(), phase, "too_many_connections");
            serving.audit.write(event);
            splice::reset(&stream);
            continue;
        };
        handle(Arc::clone(serving), port, stream, permit);
    }
}

/// The next connection; `None` when there was none after all, e.g. for want of descriptors.
pub async fn next(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            drop(stream.set_nodelay(true));
            Some(stream)
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(AFTER_FAILURE).await;
            None
        }
    }
}

fn handle(serving: Arc<Serving>, port: Port, stream: TcpStream, permit: OwnedSemaphorePermit) {
    let flow = Arc::new(serving.phases.flow());
    tokio::spawn(async move {
        let _permit = permit;
        match port {
            Port::Tls => tls::handle(serving, flow, stream).await,
            Port::Http => http80::handle(serving, flow, stream).await,
            Port::Model => api::serve(serving, flow, Entrance::Loopback, stream).await,
            Port::Other | Port::Dns => {
                tokio::select! {
                    () = flow.cut() => {}
                    // cancel-safe: a lost query is asked again.
                    () = answer_stream(&serving, stream) => {}
                }
            }
        }
    });
}

/// Every other port: told, then reset. But for the runner's question whether the rules still lead here.
fn refuse(serving: &Serving, stream: &TcpStream) {
    let original = orig_dst::read(stream);
    if serving.redirect.answer(stream, original, &serving.boot) {
        return;
    }
    let phase = serving.phases.current().stage.phase;
    let event = Event::deny(Kind::Tcp, phase, "port_not_allowed");
    serving.audit.write(event.original(original));
    splice::reset(stream);
}

async fn answer_datagrams(serving: &Serving, socket: &UdpSocket) {
    let mut buffer = vec![0; MOST_QUERY];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => answer_datagram(serving, socket, &buffer[..length], peer).await,
            Err(error) => {
                tracing::debug!(%error, "a query could not be received");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn answer_datagram(serving: &Serving, socket: &UdpSocket, query: &[u8], peer: SocketAddr) {
    if let Some(answer) = answer(serving, query)
        && let Err(error) = socket.send_to(&answer, peer).await
    {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

/// Queries over TCP: two bytes of length, then the query.
async fn answer_stream(serving: &Serving, mut stream: TcpStream) {
    let one = async |stream: &mut TcpStream| -> std::io::Result<()> {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let answer = answer(serving, &query).ok_or(std::io::ErrorKind::InvalidData)?;
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&answer).await
    };
    for _ in 0..MOST_QUERIES {
        if !matches!(timeout(QUERY, one(&mut stream)).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn answer(serving: &Serving, query: &[u8]) -> Option<Vec<u8>> {
    let stage = serving.phases.current().stage;
    let phase = stage.phase;
    let allows = |host: &_| serving.policy.name(stage, host);
    let answered = dns::answer(query, serving.families, allows)?;
    let event = match answered.verdict {
        Ok(()) => Event::allow(Kind::Dns, phase, "answered"),
        Err(reason) => Event::deny(Kind::Dns, phase, reason),
    };
    serving.audit.write(match answered.name {
        Some(name) => event.host(name.trim_end_matches('.')),
        None => event,
    });
    Some(answered.bytes)
}

const MOST_CONNECTIONS: usize = 1_024;
const MOST_DNS_CONNECTIONS: usize = 64;
const MOST_QUERY: usize = 4096;
const MOST_QUERIES: usize = 100;
const QUERY: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_millis(50);
