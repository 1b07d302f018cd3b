//! The link to the proxy.

use std::{convert::Infallible, fs, net::SocketAddr, sync::Arc};

use assay_core::control::{
    proxy::Health,
    runner::{Event, Outcome},
};
use assay_core::phase::EgressPhase;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Notify};

use crate::sandbox::{Sandbox, Setup, code, finish, shell, until};

const ROOT: &str = include_str!("../../src/trust/tests/root.pem");

/// Answers what a proxy answers on its unsigned routes, until it is told to break off.
async fn proxy(listener: TcpListener, gone: Arc<Notify>) {
    let answer = |request: Request<Incoming>| async move {
        let health = Health {
            boot: "b".to_owned(),
            monotonic_ms: 0,
            wire: 1,
            commit: "c".to_owned(),
            serving: true,
            phase: EgressPhase::Setup,
            generation: 0,
            faults: Vec::new(),
        };
        let text = match request.uri().path() {
            "/healthz" => serde_json::to_string(&health).unwrap(),
            _ => ROOT.to_owned(),
        };
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    };
    loop {
        // On a busy machine the runner gives one up that nobody answers in time, and comes again.
        let (stream, _) = listener.accept().await.unwrap();
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::select! {
            _ = connection => {}
            () = gone.notified() => return,
        }
    }
}

#[tokio::test]
async fn the_workload_ends_with_the_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let Some(sandbox) = Sandbox::start(Setup {
        proxy: Some(address),
        ..Setup::default()
    })
    .await
    else {
        return;
    };
    assert_eq!(code(sandbox.client.execute(&shell("true")).await), "not_ready");
    let gone = Arc::new(Notify::new());
    tokio::spawn(proxy(listener, Arc::clone(&gone)));
    until("the runner is ready", async || {
        sandbox.client.health().await.unwrap().ready
    })
    .await;

    let done = sandbox
        .shell("cat $SSL_CERT_FILE; test -r $(dirname $SSL_CERT_FILE)/ca.p12")
        .await;
    assert_eq!(done.end.exit_code, Some(0));
    assert!(done.text().contains(ROOT));
    assert!(fs::metadata(sandbox.path("trust/ca.pem")).is_ok());

    let mut events = sandbox.client.execute(&shell("sleep 100")).await.unwrap();
    assert!(matches!(
        events.next().await.unwrap(),
        Some(Event::Started { .. })
    ));
    gone.notify_one();
    assert_eq!(finish(events).await.end.outcome, Outcome::ProxyLost);
    assert_eq!(sandbox.shell("true").await.end.outcome, Outcome::ProxyLost);
    assert!(!sandbox.client.health().await.unwrap().ready);
}
