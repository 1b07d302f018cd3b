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

#[cfg(test)]
mod tests {
    use super::*;
    use assay_core::cause::Cause;
    use http_body_util::BodyExt as _;

    async fn asked(status: &Status, path: &str) -> (u16, String) {
        let response = status.answer(path);
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_worker_is_ready_between_registering_and_handing_back() {
        let status = Status::default();
        for (ready, code) in [(false, 503), (true, 200), (false, 503)] {
            status.ready(ready);
            assert_eq!(asked(&status, "/readyz").await.0, code);
            assert_eq!(asked(&status, "/healthz").await, (200, "ok".to_owned()));
        }
        assert_eq!(asked(&status, "/other").await.0, 404);
    }

    #[tokio::test]
    async fn metrics_count_attempts_by_how_they_ended() {
        let status = Status::default();
        for _ in 0..3 {
            status.began();
        }
        status.ended(Ended::Reported(Cause::NoPatch));
        status.ended(Ended::HandedOff);
        let (code, text) = asked(&status, "/metrics").await;
        assert_eq!(code, 200);
        for line in [
            "assay_screener_attempts_running 1",
            "assay_screener_attempts_ended_total{cause=\"no_patch\"} 1",
            "assay_screener_attempts_ended_total{cause=\"handed_off\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
