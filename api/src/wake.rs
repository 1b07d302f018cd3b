//! Wakes readers of output and events, on whichever replica they wait: at most one NOTIFY per 50 ms from each replica, one
//! LISTEN connection in each, and from there to its readers in process. A reader that hears nothing looks again by itself.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use assay_core::id::AttemptId;
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{app::Shared, store};

/// What was stored and not told yet, and who waits for what.
#[derive(Debug)]
pub struct Wake {
    untold: Mutex<BTreeSet<AttemptId>>,
    has_untold: Notify,
    readers: broadcast::Sender<Heard>,
    over: CancellationToken,
}

/// One attempt has something new; `None`: perhaps any of them.
type Heard = Option<AttemptId>;

impl Default for Wake {
    fn default() -> Self {
        Self {
            untold: Mutex::default(),
            has_untold: Notify::new(),
            readers: broadcast::Sender::new(MOST_UNHEARD),
            over: CancellationToken::new(),
        }
    }
}

impl Wake {
    /// Something of this attempt was committed: output, published events, its end.
    pub fn stored(&self, attempts: impl IntoIterator<Item = AttemptId>) {
        let mut untold = self
            .untold
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        untold.extend(attempts);
        if !untold.is_empty() {
            self.has_untold.notify_one();
        }
    }

    /// Begins to listen for an attempt. Look after this and not before, so that nothing falls between.
    pub fn reader(&self, attempt: AttemptId, patience: Duration) -> Reader {
        Reader {
            attempt,
            heard: self.readers.subscribe(),
            deadline: Instant::now() + patience.min(MOST_PATIENCE),
            over: self.over.clone(),
        }
    }

    fn take(&self) -> BTreeSet<AttemptId> {
        std::mem::take(
            &mut *self
                .untold
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

/// Somebody who waits for news of one attempt.
#[derive(Debug)]
pub struct Reader {
    attempt: AttemptId,
    heard: broadcast::Receiver<Heard>,
    deadline: Instant,
    over: CancellationToken,
}

impl Reader {
    /// Waits until it is worth to look again; false when the patience is used up or the server stops.
    pub async fn again(&mut self) -> bool {
        let slow = Instant::now() + SLOW_LOOK;
        if self.over.is_cancelled() || self.deadline <= Instant::now() {
            return false;
        }
        // cancel-safe: what was heard is only a hint to look.
        tokio::select! {
            () = news(&mut self.heard, self.attempt) => true,
            () = tokio::time::sleep_until(slow.min(self.deadline)) => slow < self.deadline,
            () = self.over.cancelled() => false,
        }
    }
}

async fn news(heard: &mut broadcast::Receiver<Heard>, attempt: AttemptId) {
    loop {
        match heard.recv().await {
            Ok(Some(other)) if other != attempt => {}
            // Heard too late is heard, too.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Tells all replicas what was stored here, until `stop`: the first word at once, then at most one per 50 ms.
pub async fn tell(app: Shared, stop: CancellationToken) {
    loop {
        // cancel-safe: what is untold stays in its set.
        tokio::select! {
            () = app.wake.has_untold.notified() => {}
            () = stop.cancelled() => break,
        }
        let attempts = app.wake.take();
        match store::wake::notify(&app.pool, &attempts).await {
            Ok(()) => {
                app.metrics.notifications_sent.inc();
            }
            Err(error) => tracing::warn!(%error, "cannot wake readers; they look by themselves"),
        }
        tokio::time::sleep(BETWEEN_WORDS).await;
    }
    app.wake.over.cancel();
}

/// Hears what all replicas tell, until `stop`.
pub async fn hear(app: Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // cancel-safe: a word that was not heard is made up for by the slow look.
        let error = tokio::select! {
            error = pass_on(&app) => error,
            () = stop.cancelled() => return,
        };
        tracing::warn!(%error, "nothing is heard from the database; readers look by themselves");
        // Whatever was told in between.
        drop(app.wake.readers.send(None));
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn pass_on(app: &Shared) -> store::Error {
    let mut listener = match store::wake::listen(&app.pool).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    loop {
        match store::wake::heard(&mut listener).await {
            // Nobody listening is no failure.
            Ok(attempts) => attempts
                .into_iter()
                .for_each(|attempt| drop(app.wake.readers.send(attempt))),
            Err(error) => return error,
        }
    }
}

/// Pause after a NOTIFY.
const BETWEEN_WORDS: Duration = Duration::from_millis(50);
/// How long a reader waits without a word before it looks again.
const SLOW_LOOK: Duration = Duration::from_secs(5);
/// Longest wait of one request.
const MOST_PATIENCE: Duration = Duration::from_secs(25);
/// Words that a slow reader may leave unheard before it simply looks again.
const MOST_UNHEARD: usize = 1024;
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
