//! `/pending-work`: what a scaler of workers is told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::store::{
    self,
    queue::pending::{Class, count_classes},
};

/// The work of one class, or of all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Evaluations with runs that could be claimed now.
    pub queued_evaluations: u64,
    /// Runs that could be claimed now.
    pub queued: u64,
    /// Runs that are held.
    pub leased: u64,
    /// Workers that the load needs.
    pub desired: u64,
    /// Age of the oldest run that could be claimed.
    pub oldest_seconds: u64,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PendingWork {
    /// All classes together.
    #[serde(flatten)]
    pub total: Load,
    /// By class.
    pub classes: BTreeMap<String, Load>,
}

impl PendingWork {
    /// The work of one class in the place of all.
    #[must_use]
    pub fn of(self, class: &str) -> Self {
        let load = self.classes.get(class).cloned().unwrap_or_default();
        Self {
            classes: BTreeMap::from([(class.to_owned(), load.clone())]),
            total: load,
        }
    }
}

/// How the scaler works.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Attempts per worker.
    pub slots: u32,
    /// Most workers.
    pub workers: u32,
}

impl Scale {
    /// Beyond this many runs per class nothing would change.
    pub fn cap(self) -> i64 {
        i64::from(self.slots) * i64::from(self.workers)
    }

    /// Enough workers for the load, and never fewer than keep the highest busy one.
    fn desired(self, load: u64, busy_ordinal: Option<u64>) -> u64 {
        let needed = load.div_ceil(self.slots.into()).min(self.workers.into());
        needed.max(busy_ordinal.map_or(0, |ordinal| ordinal + 1))
    }
}

/// Adds the classes up.
pub fn sum(classes: &[Class], scale: Scale) -> PendingWork {
    let mut all = PendingWork::default();
    for class in classes {
        let load = Load {
            queued_evaluations: class.queued_evaluations,
            queued: class.queued,
            leased: class.leased,
            desired: scale.desired(class.queued + class.leased, class.busy_ordinal),
            oldest_seconds: class.oldest_seconds,
        };
        all.total.queued_evaluations += load.queued_evaluations;
        all.total.queued += load.queued;
        all.total.leased += load.leased;
        all.total.oldest_seconds = all.total.oldest_seconds.max(load.oldest_seconds);
        all.classes.insert(class.class.clone(), load);
    }
    let busiest = classes.iter().filter_map(|class| class.busy_ordinal).max();
    all.total.desired = scale.desired(all.total.queued + all.total.leased, busiest);
    all
}

/// A reading that is at most a second old. It is a copy of the tables, not state.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Option<(Instant, PendingWork)>>);

impl Cache {
    /// The reading; callers that come at the same time share one query.
    pub async fn read(&self, pool: &PgPool, scale: Scale) -> Result<PendingWork, store::Error> {
        let mut slot = self.0.lock().await;
        if let Some((at, work)) = slot.as_ref()
            && at.elapsed() < MAX_AGE
        {
            return Ok(work.clone());
        }
        let work = sum(&count_classes(pool, scale.cap()).await?, scale);
        *slot = Some((Instant::now(), work.clone()));
        Ok(work)
    }
}

const MAX_AGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, queued: u64, leased: u64, busy_ordinal: Option<u64>) -> Class {
        Class {
            class: name.to_owned(),
            queued_evaluations: 1,
            queued,
            leased,
            oldest_seconds: queued,
            busy_ordinal,
        }
    }

    #[test]
    fn nothing_to_do_is_zeros() {
        let work = sum(
            &[],
            Scale {
                slots: 4,
                workers: 10,
            },
        );
        assert_eq!(
            serde_json::to_value(work).unwrap(),
            serde_json::json!({"queued_evaluations": 0, "queued": 0, "leased": 0, "desired": 0, "oldest_seconds": 0, "classes": {}})
        );
    }

    #[test]
    fn the_highest_busy_worker_is_kept() {
        let scale = Scale {
            slots: 4,
            workers: 10,
        };
        let work = sum(&[class("1", 5, 4, None), class("2", 0, 1, Some(7))], scale);
        assert_eq!(
            (work.total.queued, work.total.leased, work.total.desired),
            (5, 5, 8)
        );
        assert_eq!((work.classes["1"].desired, work.classes["2"].desired), (3, 8));
        assert_eq!(work.clone().of("2").total.desired, 8);
        let none = work.of("3");
        assert_eq!((none.total.desired, none.classes["3"].queued), (0, 0));
        assert_eq!(sum(&[class("1", 500, 0, None)], scale).total.desired, 10);
    }
}
