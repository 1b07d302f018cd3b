//! Passes an allowed connection through unopened, to the address that our own look-up gave for its name.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional_with_sizes},
    net::TcpStream,
};

use crate::{audit::Event, dial, phase::Flow, serving::Serving, tls::Target, waits::Wait};

/// Dials, sends what was read already, and copies until one side ends or the phase does.
pub async fn run(
    serving: &Serving,
    flow: &Flow,
    client: TcpStream,
    target: Target,
    first: Vec<u8>,
    event: Event,
) {
    let (name, port) = target;
    let dialled = tokio::select! {
        biased;
        () = flow.cut() => return,
        // cancel-safe: nothing was sent yet.
        dialled = serving.waits.measure(Wait::Dial, dial::host(&serving.resolver, &name, port)) => dialled,
    };
    let server = match dialled {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a host cannot be reached"
            );
            return serving.audit.write(event.denied(error.reason()));
        }
    };
    let event = event.dialled(server.peer_addr().ok());
    let (mut client, mut server) = (Counted::new(client), Counted::new(server));
    let copied = async {
        server.write_all(&first).await?;
        copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await
    };
    let cut = tokio::select! {
        biased;
        () = flow.cut() => true,
        // cancel-safe: the connections are dropped when the flow is cut.
        copied = copied => {
            if let Err(error) = copied {
                tracing::debug!(%error, "a connection that was passed through ended");
            }
            false
        }
    };
    if cut {
        reset(&client.stream);
        reset(&server.stream);
    }
    let event = if cut { event.reason("cut_by_phase") } else { event };
    serving.audit.write(event.bytes(server.written, client.written));
}

/// Ends a connection at once, without waiting for what is on its way.
pub fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a socket option is refused");
    }
}

/// Counts what was written to a connection, also when it is cut.
struct Counted {
    stream: TcpStream,
    written: u64,
}

impl Counted {
    fn new(stream: TcpStream) -> Self {
        Self { stream, written: 0 }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = &written {
            self.written += *length as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const BUFFER: usize = 16 * 1024;
