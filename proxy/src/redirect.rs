//! Are the packet rules still there? The proxy's own packets are exempt from them, so it cannot find out by itself: the
//! runner, which is not exempt, dials an address where nobody lives each second, and the rules must turn that here.
//!
//! The proxy answers such a connection with its boot id, which tells the runner that it met this very proxy. Once the
//! first has come, the silence of [`SILENCE`] means that the rules (or the runner) are gone: the proxy then serves
//! nobody any more.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use assay_core::egress::REDIRECT_PROBES;
use tokio::{net::TcpStream, time::sleep};

/// When the runner last came.
#[derive(Debug, Default)]
pub struct Redirect(Mutex<Option<Instant>>);

impl Redirect {
    /// Answers, if this is the runner's question; true then. Everybody may ask: it tells what `/healthz` tells.
    pub fn answer(&self, stream: &TcpStream, original: Option<SocketAddr>, boot: &str) -> bool {
        if !original.is_some_and(|original| REDIRECT_PROBES.contains(&original)) {
            return false;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        // A fresh connection has room for it; the asker takes anything else for a failure.
        if let Err(error) = stream.try_write(boot.as_bytes()) {
            tracing::debug!(%error, "a question for the redirect could not be answered");
        }
        true
    }

    /// Returns when the questions have stopped; never before the first one.
    pub async fn lost(&self) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match last.map(|last| last.elapsed()) {
                Some(silent) if silent > SILENCE => return,
                Some(silent) => sleep(SILENCE.saturating_sub(silent) + TICK).await,
                None => sleep(TICK).await,
            }
        }
    }
}

/// Much longer than the runner's pause: a machine that is short of time loses no run. The runner itself, which finds
/// out at once, has killed the workload long before.
const SILENCE: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_secs(1);
