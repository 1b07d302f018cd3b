//! The one connection to the proxy. While it lives the workload may run; when it breaks everything is killed.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use assay_core::{
    control::{proxy::Health, runner::Outcome},
    egress::port,
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    redirect,
    state::{Readiness, Runner},
    sys, trust,
};

const RETRY: Duration = Duration::from_millis(25);
const ANSWER: Duration = Duration::from_secs(5);
/// A word now and then keeps the connection from being idle. Only a break counts, never a slow answer.
const BEAT: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 256 * 1024;

struct Link {
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
    /// The proxy's boot id.
    boot: String,
}

/// Waits for the proxy and the packet rules, writes the trust bundle, opens for work, and ends all work when either is
/// gone.
pub(crate) async fn keep(runner: Arc<Runner>, proxy: SocketAddr, trust_folder: PathBuf) {
    let link = loop {
        match connect(proxy, &runner, &trust_folder).await {
            Ok(link) if is_captured(&link.boot, proxy).await => break link,
            Ok(_) => {
                let reason = "the packet rules do not lead to the proxy".to_owned();
                runner.set_readiness(Readiness::Waiting(reason));
            }
            Err(reason) => runner.set_readiness(Readiness::Waiting(reason)),
        }
        sleep(RETRY).await;
    };
    runner.set_readiness(Readiness::Ready);
    let boot = link.boot.clone();
    let reason = tokio::select! {
        () = hold(link) => "the proxy is gone",
        // cancel-safe: a look that was begun leaves nothing behind.
        reason = watch(boot, proxy) => reason,
    };
    runner.set_readiness(Readiness::ProxyLost(reason));
    runner.kill_everything(Outcome::ProxyLost, None).await;
}

/// The rules of a sandbox lead to the port of a sandbox; a proxy at another port stands alone, without rules.
fn has_rules(proxy: SocketAddr) -> bool {
    proxy.port() == port::PROXY
}

async fn is_captured(boot: &str, proxy: SocketAddr) -> bool {
    !has_rules(proxy) || redirect::holds(boot).await
}

async fn watch(boot: String, proxy: SocketAddr) -> &'static str {
    if has_rules(proxy) {
        redirect::lost(&boot).await
    } else {
        std::future::pending().await
    }
}

async fn connect(proxy: SocketAddr, runner: &Runner, folder: &std::path::Path) -> Result<Link, String> {
    let mut link = open(proxy)
        .await
        .map_err(|error| format!("the proxy does not answer: {error}"))?;
    let health = get(&mut link, "/healthz").await?;
    let health: Health =
        serde_json::from_slice(&health).map_err(|error| format!("the proxy's health: {error}"))?;
    if !health.serving {
        return Err("the proxy is not serving".to_owned());
    }
    let root = get(&mut link, "/trust").await?;
    let root = String::from_utf8(root.to_vec()).map_err(|_| "the proxy's root is not text".to_owned())?;
    let variables = trust::write(folder, &root).map_err(|error| error.to_string())?;
    runner.set_trust_variables(variables);
    // The bundle took a hundred times what is left of it.
    sys::give_memory_back();
    link.boot = health.boot;
    Ok(link)
}

async fn open(proxy: SocketAddr) -> Result<Link, String> {
    let stream = timeout(ANSWER, TcpStream::connect(proxy))
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(async move {
        // However it ends, it has ended.
        drop(connection.await);
    });
    let boot = String::new();
    Ok(Link {
        sender,
        connection,
        boot,
    })
}

async fn get(link: &mut Link, path: &str) -> Result<Bytes, String> {
    let request = Request::get(path)
        .header(header::HOST, "proxy")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        link.sender.ready().await.map_err(|error| error.to_string())?;
        let answer = link
            .sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        if status == StatusCode::OK {
            Ok(body.to_bytes())
        } else {
            Err(format!("{path} of the proxy answers {status}"))
        }
    };
    timeout(ANSWER, exchange)
        .await
        .map_err(|_| format!("{path} of the proxy gives no answer in time"))?
}

/// Returns when the connection is broken.
async fn hold(mut link: Link) {
    loop {
        tokio::select! {
            _ = &mut link.connection => return,
            () = sleep(BEAT) => {}
        }
        let request = Request::get("/healthz")
            .header(header::HOST, "proxy")
            .body(Empty::new());
        let Ok(request) = request else { return };
        let beat = async {
            if let Ok(answer) = link.sender.send_request(request).await {
                // Read to the end so that the connection can be used again.
                drop(answer.into_body().collect().await);
            }
        };
        tokio::select! {
            _ = &mut link.connection => return,
            () = beat => {}
        }
    }
}
