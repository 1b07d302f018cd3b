//! Counters of this process, in the Prometheus text format.

use crate::pending::PendingWork;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What an answer was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// The route's template.
    pub route: String,
    /// The status.
    pub status: u16,
}

/// Why an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// The cause.
    pub cause: String,
}

/// Part of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Waiting {
    /// The class.
    pub class: String,
    /// `queued` or `leased`.
    pub state: &'static str,
}

/// A class of runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Class {
    /// Its name.
    pub class: String,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Answered requests.
    pub answers: Family<Answer, Counter>,
    /// Attempts handed out.
    pub claimed: Counter,
    /// Attempts adopted.
    pub adopted: Counter,
    /// Attempts that ended.
    pub ended: Family<Ended, Counter>,
    /// Events that got their cursor here.
    pub events_published: Counter,
    /// Words to readers on all replicas.
    pub notifications_sent: Counter,
    /// Connections to the database.
    pub database_connections: Gauge,
    /// Runs in the queue, the same on every replica.
    pub queue: Family<Waiting, Gauge>,
    /// Age of the oldest run that could be claimed, seconds.
    pub oldest: Family<Class, Gauge>,
}

impl Metrics {
    /// Notes how the queue is. A class without runs is no more than its zeros.
    pub fn note_queue(&self, work: &PendingWork) {
        self.queue.clear();
        self.oldest.clear();
        for (class, load) in &work.classes {
            for (state, runs) in [("queued", load.queued), ("leased", load.leased)] {
                let class = class.clone();
                let gauge = self.queue.get_or_create_owned(&Waiting { class, state });
                gauge.set(i64::try_from(runs).unwrap_or(i64::MAX));
            }
            let class = class.clone();
            let gauge = self.oldest.get_or_create_owned(&Class { class });
            gauge.set(i64::try_from(load.oldest_seconds).unwrap_or(i64::MAX));
        }
    }

    /// The text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("assay_api");
        registry.register("http_answers", "Answered requests", self.answers.clone());
        registry.register("attempts_claimed", "Attempts handed out", self.claimed.clone());
        registry.register("attempts_adopted", "Attempts adopted", self.adopted.clone());
        registry.register(
            "attempts_ended",
            "Attempts that ended, by cause",
            self.ended.clone(),
        );
        registry.register(
            "events_published",
            "Events that got a cursor",
            self.events_published.clone(),
        );
        registry.register(
            "notifications_sent",
            "Words to readers on all replicas",
            self.notifications_sent.clone(),
        );
        registry.register(
            "database_connections",
            "Connections to the database",
            self.database_connections.clone(),
        );
        registry.register(
            "queue_runs",
            "Runs in the queue, by class and state",
            self.queue.clone(),
        );
        registry.register(
            "queue_oldest_seconds",
            "Age of the oldest run that could be claimed, by class",
            self.oldest.clone(),
        );
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}
