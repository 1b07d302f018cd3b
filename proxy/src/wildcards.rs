//! How much can be said by names. A host under a wildcard is looked up by the name that the workload made up, so each
//! name carries some letters to whoever answers for the wildcard. How many names, and how long, is bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use assay_core::{
    egress::{HostName, HostPattern},
    phase::EgressPhase,
};

use crate::route::Reason;

/// The names that were let through under each wildcard, by phase.
#[derive(Debug, Default)]
pub struct Wildcards(Mutex<BTreeMap<(EgressPhase, HostPattern), BTreeSet<HostName>>>);

impl Wildcards {
    /// May one more connection go to `host`, which is allowed by this wildcard alone?
    pub fn admit(&self, phase: EgressPhase, wildcard: &HostPattern, host: &HostName) -> Result<(), Reason> {
        if chosen(wildcard, host) > MOST_LETTERS {
            return Err("name_too_long");
        }
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.entry((phase, wildcard.clone())).or_default();
        if known.contains(host) {
            return Ok(());
        }
        if known.len() >= MOST_NAMES {
            return Err("too_many_names");
        }
        known.insert(host.clone());
        Ok(())
    }
}

/// Letters of the name that the workload chose.
fn chosen(wildcard: &HostPattern, host: &HostName) -> usize {
    match wildcard {
        HostPattern::Exact(_) => 0,
        HostPattern::OneLabel(suffix) | HostPattern::AnyLabels(suffix) => {
            host.as_str().len().saturating_sub(suffix.as_str().len() + 1)
        }
    }
}

/// More than a storage service spreads its files over.
const MOST_NAMES: usize = 256;
/// The longest label; many short ones may not be longer together.
const MOST_LETTERS: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_under_a_wildcard_are_counted_once_by_phase_and_wildcard() {
        let wildcards = Wildcards::default();
        let admit = |phase, wildcard: &str, host: String| {
            wildcards.admit(phase, &wildcard.parse().unwrap(), &host.parse().unwrap())
        };
        let agent = EgressPhase::Agent;
        for number in 0..MOST_NAMES {
            assert_eq!(
                admit(agent, "*.pkg.example.org", format!("n{number}.pkg.example.org")),
                Ok(())
            );
        }
        for (phase, wildcard, name, admitted) in [
            (agent, "*.pkg.example.org", "n7.pkg.example.org", Ok(())),
            (
                agent,
                "*.pkg.example.org",
                "new.pkg.example.org",
                Err("too_many_names"),
            ),
            (agent, "*.cdn.example.org", "new.cdn.example.org", Ok(())),
            (
                EgressPhase::Verify,
                "*.pkg.example.org",
                "new.pkg.example.org",
                Ok(()),
            ),
        ] {
            assert_eq!(admit(phase, wildcard, name.to_owned()), admitted, "{name}");
        }
    }

    #[test]
    fn the_part_that_is_chosen_may_be_as_long_as_a_label() {
        let admit = |letters: String| {
            let host = format!("{letters}.pkg.example.org").parse().unwrap();
            Wildcards::default().admit(EgressPhase::Agent, &"**.pkg.example.org".parse().unwrap(), &host)
        };
        assert_eq!(admit("a".repeat(63)), Ok(()));
        assert_eq!(admit(format!("{}.bb", "a".repeat(60))), Ok(()));
        assert_eq!(admit(format!("{}.bb", "a".repeat(61))), Err("name_too_long"));
    }
}
