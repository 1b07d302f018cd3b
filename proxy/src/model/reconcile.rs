//! Asks the router what an answer cost that was cut off before it told.
//!
//! The router knows the bill some time after the answer has ended, so it is asked a few times with growing pauses. What
//! it never tells counts at the most that it can be.

use std::{sync::Arc, time::Duration};

use assay_core::{
    ledger::{Bill, generation},
    upstream::{Dialect, Upstream},
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{sleep, timeout};

use super::upstream::{self, Body};
use crate::serving::Serving;

/// Does the service tell bills afterwards, and is this a name that it can be asked by?
pub fn is_possible(upstream: &Upstream, id: &str) -> bool {
    upstream.dialect == Dialect::OpenRouter && generation::is_name(id)
}

/// Asks for the bill of an unresolved request in a task of its own.
pub fn start(serving: &Arc<Serving>, upstream: &Arc<Upstream>, id: u64, generation: String) {
    let asking = serving.account.asking();
    let (shared, upstream) = (Arc::clone(serving), Arc::clone(upstream));
    serving.exchanges.spawn(async move {
        run(shared, upstream, id, generation).await;
        drop(asking);
    });
}

/// Asks until the bill is known or the tries are used up, and books it.
async fn run(serving: Arc<Serving>, upstream: Arc<Upstream>, id: u64, generation: String) {
    let path = generation::path(&generation);
    for pause in PAUSES {
        sleep(pause).await;
        let Ok(request) = upstream::get(&upstream, &path) else {
            return;
        };
        if let Some(bill) = ask(&serving, &upstream, request).await {
            serving.account.reconcile(id, bill);
            return;
        }
    }
}

async fn ask(serving: &Serving, upstream: &Upstream, request: Request<Body>) -> Option<Bill> {
    let connection = serving
        .services
        .connection(&serving.resolver, &serving.waits, upstream);
    let mut connection = connection.await.ok()?;
    let response = timeout(PATIENCE, connection.send(request)).await.ok()?.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    let body = Limited::new(response.into_body(), MOST_BYTES).collect();
    let body = timeout(PATIENCE, body).await.ok()?.ok()?.to_bytes();
    serving.services.keep(&upstream.host, connection);
    generation::bill(&body)
}

/// Two minutes in all.
const PAUSES: [Duration; 8] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
    Duration::from_secs(56),
];
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 256 * 1024;
