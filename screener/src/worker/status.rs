//! Health and metrics of a screener.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use assay_runtime::serve::{Options, serve as serve_http};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio_util::sync::CancellationToken;

use crate::{driver::Ended, sandboxes::Sandboxes};

/// What a worker tells about itself. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Status(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ready: AtomicBool,
    registry: Registry,
    running: Gauge,
    ended: Family<Vec<(&'static str, &'static str)>, Counter>,
    sandboxes: Sandboxes,
}

impl Default for Status {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("assay");
        let sandboxes = Sandboxes::default();
        registry.register_collector(Box::new(sandboxes.clone()));
        let (running, ended) = (Gauge::default(), Family::default());
        registry.register(
            "screener_attempts_running",
            "Attempts that are driven now",
            running.clone(),
        );
        registry.register(
            "screener_attempts_ended",
            "Attempts that are no longer driven here, by cause",
            ended.clone(),
        );
        Self(Arc::new(Inner {
            ready: AtomicBool::new(false),
            registry,
            running,
            ended,
            sandboxes,
        }))
    }
}

impl Status {
    pub(super) fn ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// Where drivers add what the proxies of their sandboxes counted.
    pub(super) fn sandboxes(&self) -> Sandboxes {
        self.0.sandboxes.clone()
    }

    pub(super) fn began(&self) {
        self.0.running.inc();
    }

    pub(super) fn ended(&self, ended: Ended) {
        self.0.running.dec();
        let word = match ended {
            Ended::Reported(cause) => cause.name(),
            Ended::Lost => "lease_lost",
            Ended::HandedOff => "handed_off",
        };
        self.0.ended.get_or_create(&vec![("cause", word)]).inc();
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let mut kind = "text/plain; charset=utf-8";
        let (status, text) = match path {
            "/healthz" => (StatusCode::OK, "ok".to_owned()),
            "/readyz" if self.0.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ready".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not registered".to_owned()),
            "/metrics" => {
                let mut text = String::new();
                kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                match encode(&mut text, &self.0.registry) {
                    Ok(()) => (StatusCode::OK, text),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }
            _ => (StatusCode::NOT_FOUND, String::new()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Binds, and gives back what serves.
pub(super) async fn serve(
    address: SocketAddr,
    status: Status,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(async move {
        let answer = move |request: Request<Incoming>| {
            let response = status.answer(request.uri().path());
            async move { response }
        };
        if let Err(error) = serve_http(listener, Options::default(), stop, answer).await {
            tracing::warn!(%error, "health is no longer served");
        }
    })
}
