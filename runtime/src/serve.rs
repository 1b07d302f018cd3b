//! Serving HTTP: header timeout, a cap on connections, a drain that ends.

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// How a listener is served.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Connections at the same time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Longest time for a request's head.
    pub header_timeout: Duration,
    /// Longest time for requests under way once draining.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(15),
        }
    }
}

/// Serves HTTP/1.1 until `draining`, then lets the requests under way end.
///
/// # Errors
/// Never for a single connection; only when the listener itself cannot go on.
pub async fn serve<S, F, B>(
    listener: TcpListener,
    options: Options,
    draining: CancellationToken,
    service: S,
) -> io::Result<()>
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(options.max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        // cancel-safe: a permit or a connection that was not returned was not taken.
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit.map_err(io::Error::other)?,
            () = draining.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
            () = draining.cancelled() => break,
        };
        let service = service.clone();
        let answer = service_fn(move |request| {
            let answer = service(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = protocol(&stream, options).serve_connection(TokioIo::new(stream), answer);
        let connection = graceful.watch(connection);
        let span = tracing::debug_span!("connection", client.addr = %peer);
        tokio::spawn(
            async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended early");
                }
                drop(permit);
            }
            .instrument(span),
        );
    }
    if tokio::time::timeout(options.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still under way when the drain time was over");
    }
    Ok(())
}

fn protocol(stream: &TcpStream, options: Options) -> http1::Builder {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout);
    protocol
}

/// Out of file descriptors or memory: give the others time to end. Other errors belong to one connection.
async fn pause_after(error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        tracing::warn!(%error, "cannot accept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
