//! One connection of a workload that speaks HTTP/1, served until it ends or its phase does.

use std::time::Duration;

use hyper::{body::Incoming, server::conn::http1, service::HttpService};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::phase::Flow;

/// Serves `stream` by `service`.
pub async fn serve<S, H>(stream: S, flow: &Flow, service: H)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: HttpService<Incoming>,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    H::ResBody: 'static,
    <H::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = flow.cut() => {}
        // cancel-safe: when the flow is cut the connection is dropped on purpose.
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection of the workload ended");
        },
    }
}

/// Software libraries keep connections for a minute.
const IDLE: Duration = Duration::from_secs(90);
const MOST_HEAD: usize = 64 * 1024;
