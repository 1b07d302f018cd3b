//! The audit: one JSON line per decision, each with the hash of the line before. No bodies, no secrets.
//!
//! A workload can cause decisions as fast as it likes, so denials and look-ups go through a token bucket per kind. What
//! it holds back is counted by kind, decision and reason, and told by the next line of the same or at the end: nothing is
//! lost but the details. Above [`SOFT_BYTES`] only what the workload cannot repeat without limit is told one by one:
//! forwarded model calls, phases, control.

mod bucket;
mod event;
mod segments;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use assay_core::{
    audit::{AuditLine, BEGUN, CLOSED, Decision, FIRST, Totals},
    clock::Clock,
    control::proxy::Counted,
    digest::Digest,
    phase::EgressPhase,
    policy::AuditDuty,
};

use self::bucket::Bucket;
pub use self::{
    event::{Event, Kind},
    segments::{Segments, Shelf, Sizes},
};

/// Size above which denials and look-ups are only counted.
pub const SOFT_BYTES: u64 = 32 * 1024 * 1024;

/// The audit cannot be written, and without it nothing is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit cannot be written")]
pub struct Unwritable;

impl Unwritable {
    /// The stable code.
    pub const CODE: &str = "audit_unavailable";
}

/// Writes the audit.
pub struct Audit {
    clock: Arc<dyn Clock>,
    duty: AuditDuty,
    writer: Mutex<Writer>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audit")
    }
}

/// Decisions by kind, decision and reason. Counting a known one copies nothing.
#[derive(Debug, Default)]
struct Tallies(BTreeMap<(Kind, Decision), BTreeMap<String, u64>>);

impl Tallies {
    fn add(&mut self, kind: Kind, decision: Decision, reason: &str, count: u64) {
        let reasons = self.0.entry((kind, decision)).or_default();
        if let Some(sum) = reasons.get_mut(reason) {
            *sum += count;
        } else {
            reasons.insert(reason.to_owned(), count);
        }
    }

    /// Counts them no longer here.
    fn take(&mut self, kind: Kind, decision: Decision, reason: &str) -> u64 {
        let reasons = self.0.get_mut(&(kind, decision));
        let sum = reasons.and_then(|reasons| reasons.get_mut(reason));
        sum.map(std::mem::take).unwrap_or_default()
    }

    fn each(&self) -> impl Iterator<Item = (Kind, Decision, &str, u64)> {
        let kinds = self.0.iter();
        kinds.flat_map(|((kind, decision), reasons)| {
            let reasons = reasons.iter().filter(|(_, sum)| **sum > 0);
            reasons.map(|(reason, sum)| (*kind, *decision, reason.as_str(), *sum))
        })
    }
}

#[derive(Debug)]
struct Writer {
    segments: Segments,
    seq: u64,
    prev: String,
    broken: bool,
    /// Decisions that could not be announced, so that nothing was forwarded.
    unrecorded: u64,
    closed: bool,
    buckets: BTreeMap<Kind, Bucket>,
    /// Decisions since the start.
    counts: Tallies,
    /// Decisions that no line tells yet.
    held_back: Tallies,
    /// Decisions that the lines so far tell.
    told: Totals,
}

impl Audit {
    /// Writes into an empty stream.
    pub fn new(segments: Segments, duty: AuditDuty, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            duty,
            writer: Mutex::new(Writer {
                segments,
                seq: 0,
                prev: FIRST.to_owned(),
                broken: false,
                unrecorded: 0,
                closed: false,
                buckets: BTreeMap::new(),
                counts: Tallies::default(),
                held_back: Tallies::default(),
                told: Totals::default(),
            }),
        }
    }

    /// Writes one line, or counts the decision towards a later one. A line that cannot be written is logged.
    pub fn write(&self, event: Event) {
        let mut writer = self.lock();
        let cheap = event.is_cheap();
        let Event { kind, line } = event;
        let decision = line.decision;
        writer.counts.add(kind, decision, &line.reason, 1);
        if cheap && !writer.takes(kind) {
            return writer.held_back.add(kind, decision, &line.reason, 1);
        }
        let count = writer.held_back.take(kind, decision, &line.reason) + 1;
        if let Err(line) = writer.tell(line, count, &*self.clock) {
            writer.held_back.add(kind, decision, &line.reason, count);
        }
    }

    /// Announces a decision before its first byte goes out, where the audit is required. Otherwise does nothing.
    ///
    /// # Errors
    /// It cannot be written: nothing may be forwarded.
    pub fn begin(&self, event: &Event) -> Result<(), Unwritable> {
        if self.duty == AuditDuty::BestEffort {
            return Ok(());
        }
        let Event { line, .. } = event.clone().allowed(BEGUN);
        let mut writer = self.lock();
        let told = writer.tell(line, 0, &*self.clock);
        writer.unrecorded += u64::from(told.is_err() && !writer.closed);
        told.map_err(|_| Unwritable)
    }

    /// Tells what was held back, and ends the audit. Later decisions are only counted.
    pub fn close(&self, phase: EgressPhase) {
        let mut writer = self.lock();
        if writer.closed {
            return;
        }
        for (kind, decision, reason, count) in std::mem::take(&mut writer.held_back).each() {
            let Event { line, .. } = Event::new(kind, phase, decision, reason);
            if writer.tell(line, count, &*self.clock).is_err() {
                tracing::error!(count, reason, "decisions are not in the audit");
            }
        }
        let Event { mut line, .. } = Event::allow(Kind::Control, phase, CLOSED);
        line.totals = Some(writer.told);
        writer.closed = writer.tell(line, 1, &*self.clock).is_ok();
    }

    /// Bytes of the stream, see [`Segments::read`].
    pub fn read(&self, from: u64, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.lock().segments.read(from, most)
    }

    /// Could the last line not be written?
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// How often [`Self::begin`] let nothing be forwarded.
    pub fn unrecorded(&self) -> u64 {
        self.lock().unrecorded
    }

    /// How often each decision was made, told or only counted.
    pub fn counted(&self) -> Vec<Counted> {
        let writer = self.lock();
        let counted = writer
            .counts
            .each()
            .map(|(kind, decision, reason, count)| Counted {
                kind: kind.name().to_owned(),
                decision,
                reason: reason.to_owned(),
                count,
            });
        counted.collect()
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.lock().segments.end()
    }

    /// Decisions that refused something, told or only counted.
    pub fn denied(&self) -> u64 {
        let writer = self.lock();
        let denied = writer.counts.each().filter(|counted| counted.1 == Decision::Deny);
        denied.map(|counted| counted.3).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// May a decision that costs the workload nothing have a line of its own?
    fn takes(&mut self, kind: Kind) -> bool {
        let bucket = self.buckets.entry(kind).or_insert_with(Bucket::full);
        bucket.take(Instant::now()) && self.segments.end() <= SOFT_BYTES
    }

    /// Writes a line that stands for `count` decisions; gives it back when it is not there.
    fn tell(&mut self, line: AuditLine, count: u64, clock: &dyn Clock) -> Result<(), Box<AuditLine>> {
        if self.closed {
            return Err(Box::new(line));
        }
        let line = AuditLine {
            seq: self.seq + 1,
            time: clock.now().to_string(),
            count: (count != 1).then_some(count),
            prev: self.prev.clone(),
            ..line
        };
        let appended = self.append(&line);
        self.broken = appended.is_err();
        match appended {
            Ok(()) => {
                self.told.add(line.decision, count);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the audit cannot be written");
                Err(Box::new(line))
            }
        }
    }

    fn append(&mut self, line: &AuditLine) -> io::Result<()> {
        let mut json = serde_json::to_vec(line)?;
        let hash = Digest::of(&json).hex();
        json.push(b'\n');
        self.segments.append(&json)?;
        self.seq = line.seq;
        self.prev = hash;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use assay_core::{
        audit::{Chain, End, Verdict},
        clock::SystemClock,
    };

    use super::*;

    const SMALL: Sizes = Sizes {
        piece: 4_096,
        kept: 1 << 20,
    };

    fn audit(folder: &std::path::Path, duty: AuditDuty, sizes: Sizes) -> Audit {
        Audit::new(
            Segments::create(folder, sizes).unwrap(),
            duty,
            Arc::new(SystemClock),
        )
    }

    fn verdict(folder: &std::path::Path) -> Verdict {
        let mut chain = Chain::default();
        chain.push(&Shelf::open(folder).unwrap().whole().unwrap());
        chain.finish()
    }

    #[test]
    fn an_audit_in_many_pieces_is_one_chain_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let audit = audit(folder.path(), AuditDuty::BestEffort, SMALL);
        for at in 0..100 {
            let host = format!("host-{at}.example");
            audit.write(Event::allow(Kind::Tls, EgressPhase::Agent, "spliced").host(&host));
        }
        assert_eq!(verdict(folder.path()).end, End::Open);
        audit.close(EgressPhase::Agent);
        audit.close(EgressPhase::Agent);
        audit.write(Event::deny(Kind::Phase, EgressPhase::Agent, "stale_generation"));
        let verdict = verdict(folder.path());
        assert_eq!(
            (verdict.end, verdict.lines, verdict.broken),
            (End::Closed, 101, None)
        );
        assert!(std::fs::read_dir(folder.path()).unwrap().count() > 3);
        assert_eq!(audit.bytes(), verdict.bytes);
    }

    #[test]
    fn a_flood_is_sampled_and_every_decision_is_counted_in_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let audit = audit(folder.path(), AuditDuty::BestEffort, SMALL);
        for at in 0..10_000 {
            let reason = if at % 10 == 0 {
                "no_name"
            } else {
                "host_not_allowed"
            };
            audit.write(Event::deny(Kind::Dns, EgressPhase::Agent, reason));
        }
        audit.write(Event::allow(Kind::Phase, EgressPhase::Verify, "switched"));
        assert_eq!(audit.denied(), 10_000);
        audit.close(EgressPhase::Verify);
        let verdict = verdict(folder.path());
        assert!(verdict.lines < 1_000, "{}", verdict.lines);
        assert_eq!(verdict.broken, None);
        assert_eq!((verdict.decisions.denied, verdict.decisions.allowed), (10_000, 2));
    }

    #[test]
    fn where_it_is_required_nothing_begins_that_it_cannot_tell() {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Sizes {
            piece: 100,
            kept: 600,
        };
        let audit = audit(folder.path(), AuditDuty::Required, tiny);
        let event = Event::deny(Kind::Tls, EgressPhase::Agent, "").host("x.example");
        let begun = (0..20).take_while(|_| audit.begin(&event).is_ok()).count();
        assert!((1..20).contains(&begun) && audit.is_broken(), "{begun}");
        assert_eq!(audit.unrecorded(), 1);
        audit.write(event.clone().denied(Unwritable::CODE));
        let length = audit.bytes();
        assert!(audit.read(length, 1).unwrap().unwrap().is_empty());
        assert_eq!(audit.begin(&event), Ok(()), "there is room again");
        audit.close(EgressPhase::Agent);
        assert_eq!((audit.begin(&event), audit.unrecorded()), (Err(Unwritable), 1));
        let counted = audit.counted();
        assert_eq!(
            (counted.len(), counted[0].count),
            (1, 1),
            "an announcement is no decision"
        );
    }

    #[test]
    fn nothing_is_announced_where_it_is_not_required() {
        let folder = tempfile::tempdir().unwrap();
        let audit = audit(folder.path(), AuditDuty::BestEffort, SMALL);
        let event = Event::deny(Kind::Tls, EgressPhase::Agent, "");
        assert_eq!((audit.begin(&event), audit.bytes()), (Ok(()), 0));
    }
}
