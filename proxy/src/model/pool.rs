//! Idle connections to one model service, kept for the next request. One proxy serves one sandbox, so none is ever shared
//! between sandboxes.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use tokio::time::{Instant, timeout};

use super::upstream::Body;

/// A connection that takes one request at a time.
#[derive(Debug)]
pub struct Connection {
    /// Where it leads.
    pub address: SocketAddr,
    sender: SendRequest<Body>,
    since: Instant,
    /// Whether it has answered a request before.
    used: bool,
}

/// How a request came to nothing.
#[derive(Debug)]
pub enum Unanswered {
    /// An idle connection had ended: the service has seen nothing of the request.
    Unsent(Box<Request<Body>>),
    /// The connection broke, and the service may have worked.
    Broken(hyper::Error),
}

impl Connection {
    /// A new one.
    pub fn new(address: SocketAddr, sender: SendRequest<Body>) -> Self {
        Self {
            address,
            sender,
            since: Instant::now(),
            used: false,
        }
    }

    /// Sends a request and gives the head of the answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unanswered> {
        let used = std::mem::replace(&mut self.used, true);
        self.sender.try_send_request(request).await.map_err(|mut error| {
            match error.take_message().filter(|_| used) {
                Some(request) => Unanswered::Unsent(Box::new(request)),
                None => Unanswered::Broken(error.into_error()),
            }
        })
    }
}

/// The idle connections.
#[derive(Debug, Default)]
pub struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    /// The one that was used last and can be used again.
    pub async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                idle.retain(|connection| {
                    connection.since.elapsed() < MOST_IDLE && !connection.sender.is_closed()
                });
                idle.pop()?
            };
            // The end of the last answer may not have come through yet.
            if matches!(timeout(SETTLING, connection.sender.ready()).await, Ok(Ok(()))) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn keep(&self, mut connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_KEPT && !connection.sender.is_closed() {
            connection.since = Instant::now();
            idle.push(connection);
        }
    }
}

/// Shorter than services keep theirs, so that they seldom end one just as we use it.
const MOST_IDLE: Duration = Duration::from_secs(20);
const SETTLING: Duration = Duration::from_millis(20);
const MOST_KEPT: usize = 32;
