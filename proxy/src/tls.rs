//! Captured TLS: read the name, decide, then open it, pass it through, or close it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use assay_core::{egress::HostName, trust};
use bytes::{Buf as _, Bytes};
use rustls::AlertDescription;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    audit::{Event, Kind},
    hello::{self, Hello},
    inject,
    model::api::{self, Entrance},
    orig_dst,
    phase::Flow,
    route::Route,
    serving::Serving,
    splice,
    waits::Wait,
};

/// Handles one connection until it ends or its phase does.
pub async fn handle(serving: Arc<Serving>, flow: Arc<Flow>, mut stream: TcpStream) {
    let original = orig_dst::read(&stream);
    let hello = tokio::select! {
        biased;
        () = flow.cut() => return,
        // cancel-safe: the connection is dropped when the flow is cut.
        hello = serving.waits.measure(Wait::Hello, hello::read(&mut stream)) => hello,
    };
    let deny = |reason: &str| Event::deny(Kind::Tls, flow.phase(), reason).original(original);
    let Hello { name, has_ech, bytes } = match hello {
        Ok(hello) => hello,
        Err(refused) => {
            let event = deny(refused.reason);
            serving.audit.write(match refused.name {
                Some(name) => event.host(&name.escape_default()),
                None => event,
            });
            return;
        }
    };
    let route = serving.policy.tls(flow.stage(), &name);
    match route.and_then(|route| serving.count_name(flow.stage(), &name).map(|()| route)) {
        Err(reason) => serving.audit.write(deny(reason).host(&name)),
        // On an opened host we answer ourselves, and a client falls back to the outer hello.
        Ok(Route::Splice) if has_ech && serving.policy.denies_ech(&name) => {
            serving.audit.write(deny("ech_not_allowed").host(&name));
        }
        Ok(Route::Splice) => {
            let event = Event::allow(Kind::Tls, flow.phase(), "spliced")
                .original(original)
                .host(&name);
            splice::run(&serving, &flow, stream, (name, 443), bytes, event).await;
        }
        Ok(Route::Open(upstream)) => {
            let event = deny("handshake_failed").host(&name);
            if let Some(stream) = open(&serving, &flow, &name, (stream, bytes), event).await {
                api::serve(serving, flow, Entrance::Opened(upstream), stream).await;
            }
        }
        Ok(Route::Inject(injections)) => {
            let event = deny("handshake_failed").host(&name);
            if let Some(stream) = open(&serving, &flow, &name, (stream, bytes), event).await {
                inject::serve(serving, flow, (name, injections), stream).await;
            }
        }
    }
}

/// Answers as this host. `None` when the handshake came to nothing, which is then in the audit.
async fn open(
    serving: &Serving,
    flow: &Flow,
    host: &HostName,
    client: (TcpStream, Vec<u8>),
    failed: Event,
) -> Option<TlsStream<Replayed>> {
    let Some(config) = serving.authority.server(host) else {
        serving.audit.write(failed.reason("no_certificate"));
        return None;
    };
    let replayed = Replayed {
        first: client.1.into(),
        stream: client.0,
    };
    let handshake = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(replayed));
    let handshake = serving.waits.measure(Wait::Handshake, handshake);
    let stream = tokio::select! {
        biased;
        () = flow.cut() => return None,
        // cancel-safe: the connection is dropped when the flow is cut.
        stream = handshake => stream,
    };
    let (event, stream) = match stream {
        Ok(Ok(stream)) => (failed.allowed("opened"), Some(stream)),
        Ok(Err(error)) => match distrust(&error) {
            Some(reason) => (failed.reason(reason).advice(trust::advice()), None),
            None => (failed, None),
        },
        Err(_) => (failed.reason("handshake_timeout"), None),
    };
    serving.audit.write(event);
    stream
}

/// The commonest fault of an image: a client that does not know our root. Some say so with an alert, each library with
/// another; Node, Java and asyncio hang up without a word.
fn distrust(error: &io::Error) -> Option<&'static str> {
    let hung_up = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
    ];
    let alerts = [
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateExpired,
    ];
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) if alerts.contains(alert) => {
            Some("certificate_not_trusted")
        }
        None if hung_up.contains(&error.kind()) => Some("closed_in_handshake"),
        _ => None,
    }
}

/// The bytes that were read, and then the rest of the connection.
struct Replayed {
    first: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A name and a port to dial.
pub type Target = (HostName, u16);

const HANDSHAKE: Duration = Duration::from_secs(10);
