//! Readiness as named latches: a server is ready when every one is released.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// What a server waits for before it is ready. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Readiness {
    /// Names something that must be there first.
    pub fn expect(&self, name: &'static str) {
        self.set(name, false);
    }

    /// Says whether it is there.
    pub fn set(&self, name: &'static str, there: bool) {
        if let Ok(mut latches) = self.0.lock() {
            latches.insert(name, there);
        }
    }

    /// What is still missing; empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        self.0.lock().map_or_else(
            |_| vec!["poisoned"],
            |latches| {
                latches
                    .iter()
                    .filter(|(_, there)| !**there)
                    .map(|(name, _)| *name)
                    .collect()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_everything_expected_is_there() {
        let readiness = Readiness::default();
        readiness.expect("database");
        assert_eq!(readiness.missing(), ["database"]);
        readiness.set("database", true);
        assert!(readiness.missing().is_empty());
    }
}
