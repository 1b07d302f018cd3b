//! The audit: one JSON line per decision, each with the hash of the line before. No bodies, no secrets.
//!
//! A workload can cause decisions as fast as it likes, so denials and look-ups go through a token bucket per kind; what
//! it holds back is counted and told by the next line of that kind. Above [`SOFT_BYTES`] only what the workload cannot
//! repeat without limit is written: forwarded model calls, phases, control.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use assay_core::{
    clock::Clock,
    control::proxy::{AuditLine, Counted, Decision},
    digest::Digest,
    money::PicoUsd,
    phase::EgressPhase,
};

/// Size above which denials and look-ups are only counted.
pub const SOFT_BYTES: u64 = 32 * 1024 * 1024;

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A look-up.
    Dns,
    /// A connection to port 443.
    Tls,
    /// A request on port 80.
    Http,
    /// A connection to another port.
    Tcp,
    /// A model request.
    Model,
    /// A switch of the phase.
    Phase,
    /// The proxy's own life.
    Control,
}

impl Kind {
    /// The word in the audit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Model => "model",
            Self::Phase => "phase",
            Self::Control => "control",
        }
    }
}

/// One decision, before it becomes a line.
#[derive(Debug, Clone)]
pub struct Event {
    kind: Kind,
    line: AuditLine,
}

impl Event {
    /// Something was let through.
    pub fn allow(kind: Kind, phase: EgressPhase, reason: &str) -> Self {
        Self::new(kind, phase, Decision::Allow, reason)
    }

    /// Something was refused.
    pub fn deny(kind: Kind, phase: EgressPhase, reason: &str) -> Self {
        Self::new(kind, phase, Decision::Deny, reason)
    }

    fn new(kind: Kind, phase: EgressPhase, decision: Decision, reason: &str) -> Self {
        Self {
            kind,
            line: AuditLine {
                seq: 0,
                time: String::new(),
                phase,
                kind: kind.name().to_owned(),
                decision,
                reason: reason.to_owned(),
                host: None,
                original: None,
                dialled: None,
                request: None,
                model: None,
                status: None,
                cost: None,
                tokens: None,
                bytes: None,
                count: None,
                prev: String::new(),
            },
        }
    }

    /// What began as a denial is let through after all.
    #[must_use]
    pub fn allowed(mut self, reason: &str) -> Self {
        self.line.decision = Decision::Allow;
        self.reason(reason)
    }

    /// What began as let through is refused after all.
    #[must_use]
    pub fn denied(mut self, reason: &str) -> Self {
        self.line.decision = Decision::Deny;
        self.reason(reason)
    }

    /// Another stable code, when more is known.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.line.reason);
        self
    }

    /// The name that was asked for.
    #[must_use]
    pub fn host(mut self, host: &(impl ToString + ?Sized)) -> Self {
        self.set_host(host);
        self
    }

    /// The same, of an event that somebody else completes.
    pub fn set_host(&mut self, host: &(impl ToString + ?Sized)) {
        self.line.host = Some(host.to_string());
    }

    /// Where the workload's packet was going.
    #[must_use]
    pub fn original(mut self, address: Option<impl ToString>) -> Self {
        self.line.original = address.map(|address| address.to_string());
        self
    }

    /// Where the proxy connected to.
    #[must_use]
    pub fn dialled(mut self, address: Option<impl ToString>) -> Self {
        self.set_dialled(address);
        self
    }

    /// The same, of an event that somebody else completes.
    pub fn set_dialled(&mut self, address: Option<impl ToString>) {
        self.line.dialled = address.map(|address| address.to_string());
    }

    /// Method and path, cut at 256 bytes; control characters cannot occur in either.
    #[must_use]
    pub fn request(mut self, method: &http::Method, path: &str) -> Self {
        self.line.request = Some(format!("{method} {path}").chars().take(256).collect());
        self
    }

    /// The model.
    #[must_use]
    pub fn model(mut self, model: Option<impl ToString>) -> Self {
        self.set_model(model);
        self
    }

    /// The same, of an event that somebody else completes.
    pub fn set_model(&mut self, model: Option<impl ToString>) {
        self.line.model = model.map(|model| model.to_string());
    }

    /// The HTTP status that the workload got.
    #[must_use]
    pub fn status(mut self, status: http::StatusCode) -> Self {
        self.line.status = Some(status.as_u16());
        self
    }

    /// What it cost, and tokens in and out.
    #[must_use]
    pub fn bill(mut self, cost: PicoUsd, tokens: (u64, u64)) -> Self {
        self.line.cost = Some(cost);
        self.line.tokens = Some(tokens);
        self
    }

    /// Bytes up and down.
    #[must_use]
    pub fn bytes(mut self, up: u64, down: u64) -> Self {
        self.line.bytes = Some((up, down));
        self
    }

    /// Can a workload cause it again and again for nothing?
    fn is_cheap(&self) -> bool {
        match self.kind {
            Kind::Phase | Kind::Control => false,
            Kind::Dns | Kind::Tls | Kind::Http | Kind::Tcp => true,
            Kind::Model => self.line.decision == Decision::Deny,
        }
    }
}

/// Writes the audit.
pub struct Audit {
    clock: Arc<dyn Clock>,
    writer: Mutex<Writer>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audit")
    }
}

#[derive(Debug)]
struct Writer {
    file: File,
    seq: u64,
    prev: String,
    bytes: u64,
    denied: u64,
    broken: bool,
    buckets: BTreeMap<Kind, Bucket>,
    counts: BTreeMap<(Kind, Decision), BTreeMap<String, u64>>,
}

impl Audit {
    /// Writes into an empty file.
    pub fn new(file: File, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            writer: Mutex::new(Writer {
                file,
                seq: 0,
                prev: "0".repeat(64),
                bytes: 0,
                denied: 0,
                broken: false,
                buckets: BTreeMap::new(),
                counts: BTreeMap::new(),
            }),
        }
    }

    /// Writes one line, or counts the decision towards a later one. A line that cannot be written is logged.
    pub fn write(&self, event: Event) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if event.line.decision == Decision::Deny {
            writer.denied += 1;
        }
        writer.count(&event);
        let cheap = event.is_cheap();
        let count = if cheap {
            let full = writer.bytes > SOFT_BYTES;
            let bucket = writer.buckets.entry(event.kind).or_insert_with(Bucket::full);
            let Some(count) = bucket.take(Instant::now(), full) else {
                return;
            };
            count
        } else {
            1
        };
        let line = AuditLine {
            seq: writer.seq + 1,
            time: self.clock.now().to_string(),
            count: (count > 1).then_some(count),
            prev: writer.prev.clone(),
            ..event.line
        };
        let appended = writer.append(&line);
        writer.broken = appended.is_err();
        if let Err(error) = appended {
            tracing::error!(%error, "the audit cannot be written");
        }
    }

    /// Could the last line not be written?
    pub fn is_broken(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).broken
    }

    /// How often each decision was made, told or only counted.
    pub fn counted(&self) -> Vec<Counted> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = writer.counts.iter();
        let counted = counts.flat_map(|((kind, decision), reasons)| {
            reasons.iter().map(|(reason, count)| Counted {
                kind: kind.name().to_owned(),
                decision: *decision,
                reason: reason.clone(),
                count: *count,
            })
        });
        counted.collect()
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Decisions that refused something, told or only counted.
    pub fn denied(&self) -> u64 {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).denied
    }
}

impl Writer {
    /// Reasons are words of this program, so there are few; the cap is for the day when one is not.
    fn count(&mut self, event: &Event) {
        let reasons = self.counts.entry((event.kind, event.line.decision)).or_default();
        if let Some(count) = reasons.get_mut(&event.line.reason) {
            *count += 1;
        } else if reasons.len() < MOST_REASONS {
            reasons.insert(event.line.reason.clone(), 1);
        }
    }

    fn append(&mut self, line: &AuditLine) -> io::Result<()> {
        let mut json = serde_json::to_vec(line)?;
        json.push(b'\n');
        self.file.write_all(&json)?;
        self.seq = line.seq;
        self.prev = Digest::of(&json[..json.len() - 1]).hex();
        self.bytes += json.len() as u64;
        Ok(())
    }
}

/// Lets a burst through, then a trickle, and counts what it holds back.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Option<Instant>,
    held_back: u64,
}

impl Bucket {
    fn full() -> Self {
        Self {
            tokens: BURST,
            refilled: None,
            held_back: 0,
        }
    }

    /// How many decisions the next line stands for; `None` when there must be no line.
    fn take(&mut self, now: Instant, closed: bool) -> Option<u64> {
        let since = now.duration_since(*self.refilled.get_or_insert(now));
        let fresh = u32::try_from(since.as_millis() / TRICKLE_MS).unwrap_or(u32::MAX);
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(BURST);
            self.refilled = Some(now);
        }
        if closed || self.tokens == 0 {
            self.held_back += 1;
            return None;
        }
        self.tokens -= 1;
        Some(1 + std::mem::take(&mut self.held_back))
    }
}

const MOST_REASONS: usize = 256;
const BURST: u32 = 500;
const TRICKLE_MS: u128 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use assay_core::clock::SystemClock;

    use super::*;

    fn lines(path: &std::path::Path) -> Vec<String> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_line_carries_the_hash_of_the_line_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let audit = Audit::new(File::create(&path).unwrap(), Arc::new(SystemClock));
        for reason in ["a", "b", "c"] {
            audit.write(Event::deny(Kind::Dns, EgressPhase::Agent, reason).host("x.example"));
        }
        let mut prev = "0".repeat(64);
        for (seq, line) in (1..).zip(lines(&path)) {
            let parsed: AuditLine = serde_json::from_str(&line).unwrap();
            assert_eq!((parsed.seq, &parsed.prev), (seq, &prev));
            prev = Digest::of(&line).hex();
        }
        assert_eq!(audit.denied(), 3);
        assert_eq!(audit.bytes(), std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_flood_of_denials_is_counted_and_what_matters_is_still_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let audit = Audit::new(File::create(&path).unwrap(), Arc::new(SystemClock));
        for _ in 0..10_000 {
            audit.write(Event::deny(Kind::Dns, EgressPhase::Agent, "host_not_allowed"));
        }
        audit.write(Event::allow(Kind::Phase, EgressPhase::Verify, "switched"));
        let lines = lines(&path);
        assert!(lines.len() < 1_000, "{}", lines.len());
        assert!(lines.last().unwrap().contains("switched"));
        assert_eq!(audit.denied(), 10_000);
    }

    #[test]
    fn the_next_line_tells_how_many_were_held_back() {
        let start = Instant::now();
        let mut bucket = Bucket::full();
        let told = (0..BURST + 7)
            .filter(|_| bucket.take(start, false).is_some())
            .count();
        assert_eq!(told, usize::try_from(BURST).unwrap());
        assert_eq!(bucket.take(start + Duration::from_secs(1), false), Some(8));
    }
}
