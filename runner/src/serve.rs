//! Main's runner: configuration, listeners, and the end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use assay_core::control::runner::{Outcome, RunnerConfig};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{http, isolation::Confinement, process, proxy_link, services, state::Runner};

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) config: PathBuf,
    listen: Vec<SocketAddr>,
    pub(crate) proxy: SocketAddr,
    pub(crate) trust: PathBuf,
}

const LISTEN: [&str; 2] = ["0.0.0.0:15020", "[::]:15020"];
const PROXY: &str = "127.0.0.1:15090";
const TRUST: &str = "/assay/trust";
/// Connections at a time from this sandbox itself (that is, from the workload) and from elsewhere: the workload
/// cannot take the places of the control plane.
const PLACES: (usize, usize) = (16, 64);
/// Longer than a caller keeps an idle connection, so that it is the caller who closes it.
const HEAD: Duration = Duration::from_secs(100);

impl Options {
    /// From the words after the role. `config` is the usual file.
    pub(crate) fn parse(words: &[String], config: &str) -> Result<Self, String> {
        let address = |text: &str| {
            text.parse::<SocketAddr>()
                .map_err(|_| format!("not an address: {text}"))
        };
        let mut options = Self {
            config: PathBuf::from(config),
            listen: Vec::new(),
            proxy: address(PROXY)?,
            trust: PathBuf::from(TRUST),
        };
        for pair in words.chunks(2) {
            match pair {
                [name, value] if name == "--config" => options.config = PathBuf::from(value),
                [name, value] if name == "--listen" => options.listen.push(address(value)?),
                [name, value] if name == "--proxy" => options.proxy = address(value)?,
                [name, value] if name == "--trust" => options.trust = PathBuf::from(value),
                [name, ..] => return Err(format!("{name}: unknown, or without a value")),
                [] => {}
            }
        }
        Ok(options)
    }
}

/// Runs until it is told to end.
pub(crate) fn run(options: Options) -> Result<(), String> {
    let config: RunnerConfig = process::read(&options.config)?;
    process::run(|confinement| serve(config, confinement, options))
}

async fn serve(config: RunnerConfig, confinement: Confinement, options: Options) -> Result<(), String> {
    let terminate = process::termination()?;
    let proxy = config.proxy;
    let runner = Arc::new(Runner::new(config, confinement).map_err(|error| error.to_string())?);
    process::collect_the_dead(&runner)?;
    for listener in listeners(&options.listen).await? {
        tokio::spawn(accept(listener, Arc::clone(&runner)));
    }
    if proxy {
        tokio::spawn(proxy_link::keep(
            Arc::clone(&runner),
            options.proxy,
            options.trust,
        ));
    }
    services::follow(&runner);
    tokio::select! {
        Ok(()) = terminate => {}
        () = runner.shutdown.notified() => {}
    }
    runner.kill_everything(Outcome::Killed, None).await;
    // Let the last events leave.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// The given addresses, all of which must work; or the usual ones, of which IPv6 may not exist.
async fn listeners(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let mut open = Vec::new();
    if wanted.is_empty() {
        for address in LISTEN {
            match listen(address).await {
                Ok(listener) => open.push(listener),
                // Where `::` takes IPv4 as well, or does not exist, the first one does for both.
                Err(_) if !open.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
    }
    for address in wanted {
        open.push(listen(&address.to_string()).await?);
    }
    Ok(open)
}

async fn listen(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}

async fn accept(listener: TcpListener, runner: Arc<Runner>) {
    let inside = Arc::new(Semaphore::new(PLACES.0));
    let outside = Arc::new(Semaphore::new(PLACES.1));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors for a moment.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let own = peer.ip().to_canonical().is_loopback()
            || stream.local_addr().is_ok_and(|local| local.ip() == peer.ip());
        let places = if own { &inside } else { &outside };
        // Without a free place the connection is closed at once.
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            let runner = Arc::clone(&runner);
            tokio::spawn(async move {
                converse(stream, runner).await;
                drop(place);
            });
        }
    }
}

async fn converse(stream: TcpStream, runner: Arc<Runner>) {
    let service = service_fn(move |request| {
        let runner = Arc::clone(&runner);
        async move { Ok::<_, std::convert::Infallible>(http::answer(runner, request).await) }
    });
    // A small answer should not wait for the one before.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A broken connection is the peer's business; executions go on without it.
    drop(connection.await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_strict() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let options =
            Options::parse(&words("--config /c --listen 127.0.0.1:1 --listen [::1]:2"), "/d").unwrap();
        assert_eq!(options.listen.len(), 2);
        assert_eq!(options.config, PathBuf::from("/c"));
        for bad in ["--config", "--what 1", "--listen here"] {
            assert!(Options::parse(&words(bad), "/d").is_err(), "{bad}");
        }
    }
}
