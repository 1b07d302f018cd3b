//! The audit of a proxy: what a line says, and how its chain is checked.
//!
//! Each line carries its number and the hash of the line before, so that none can be changed, left out or put in without
//! breaking what follows. The last line says that it is the last and how many decisions were made: so a missing end is
//! seen too. A chain has no key; who may write all of it can make another one. Against that stand the MAC of the proxy's
//! answers and the bytes that the report of an attempt counts.

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, money::PicoUsd, phase::EgressPhase};

/// One line of the audit: one decision. No bodies, no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Counts from 1.
    pub seq: u64,
    /// RFC 3339, UTC.
    pub time: String,
    /// The egress phase.
    pub phase: EgressPhase,
    /// What was decided about: `dns`, `tls`, `http`, `tcp`, `model`, `phase`, `control`.
    pub kind: String,
    /// `allow` or `deny`.
    pub decision: Decision,
    /// A stable code.
    pub reason: String,
    /// The name that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where the workload's packet was going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// Where the proxy connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<String>,
    /// Method and path, on opened hosts and port 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The HTTP status that the workload got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<PicoUsd>,
    /// Tokens in and out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<(u64, u64)>,
    /// Bytes up and down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<(u64, u64)>,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// How many decisions this line stands for, when they come too fast to be told one by one; one when absent, none for a
    /// line that only announces a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// In the last line: the decisions before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// SHA-256 of the line before, hexadecimal; zeros in the first.
    pub prev: String,
}

/// Whether something was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Let through.
    Allow,
    /// Refused.
    Deny,
}

/// Decisions, told one by one or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Let through.
    pub allowed: u64,
    /// Refused.
    pub denied: u64,
}

impl Totals {
    /// Counts `count` decisions.
    pub fn add(&mut self, decision: Decision, count: u64) {
        let sum = match decision {
            Decision::Allow => &mut self.allowed,
            Decision::Deny => &mut self.denied,
        };
        *sum = sum.saturating_add(count);
    }
}

impl AuditLine {
    /// Decisions that this line stands for.
    pub fn decisions(&self) -> u64 {
        self.count.unwrap_or(1)
    }

    /// Is this how an audit ends?
    pub fn is_last(&self) -> bool {
        self.kind == "control" && self.reason == CLOSED
    }
}

/// Checks an audit while it is read, piece by piece.
#[derive(Debug)]
pub struct Chain {
    rest: Vec<u8>,
    seq: u64,
    prev: String,
    bytes: u64,
    totals: Totals,
    closed: bool,
    broken: Option<Broken>,
}

/// What an audit is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Good lines, up to the first that is not.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The decisions that these lines tell.
    pub decisions: Totals,
    /// How it ends.
    pub end: End,
    /// The first line that breaks the chain.
    pub broken: Option<Broken>,
    /// Hash of the last good line: two copies of one audit have the same.
    pub head: String,
}

/// How an audit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With the line that says so: nothing is missing.
    Closed,
    /// Without it: the proxy still serves or died, or the end was cut off.
    Open,
    /// In the middle of a line.
    Torn,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// From 1.
    pub line: u64,
    /// Why.
    pub fault: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            rest: Vec::new(),
            seq: 0,
            prev: FIRST.to_owned(),
            bytes: 0,
            totals: Totals::default(),
            closed: false,
            broken: None,
        }
    }
}

impl Chain {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.rest.extend_from_slice(piece);
        let whole = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.broken.is_none() {
                let line = &line[..line.len() - 1];
                if let Err(fault) = self.follow(line) {
                    self.broken = Some(Broken {
                        line: self.seq + 1,
                        fault,
                    });
                }
            }
        }
    }

    /// What it was worth, when nothing more comes.
    pub fn finish(self) -> Verdict {
        let end = match (self.rest.is_empty(), self.closed) {
            (false, _) => End::Torn,
            (true, true) => End::Closed,
            (true, false) => End::Open,
        };
        Verdict {
            lines: self.seq,
            bytes: self.bytes,
            decisions: self.totals,
            end,
            broken: self.broken,
            head: self.prev,
        }
    }

    fn follow(&mut self, text: &[u8]) -> Result<(), String> {
        if self.closed {
            return Err("it comes after the line that closed the audit".to_owned());
        }
        let line: AuditLine =
            serde_json::from_slice(text).map_err(|error| format!("it is no line of an audit: {error}"))?;
        if line.seq != self.seq + 1 {
            return Err(format!("its number is {}, not {}", line.seq, self.seq + 1));
        }
        if line.prev != self.prev {
            return Err("it does not carry the hash of the line before".to_owned());
        }
        if let Some(told) = line.totals
            && told != self.totals
        {
            return Err(format!(
                "it counts {} allowed and {} denied, the lines before it {} and {}",
                told.allowed, told.denied, self.totals.allowed, self.totals.denied
            ));
        }
        self.closed = line.is_last();
        self.totals.add(line.decision, line.decisions());
        self.seq = line.seq;
        self.prev = Digest::of(text).hex();
        Ok(())
    }
}

/// What the first line carries as the hash of the line before.
pub const FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The reason of the last line.
pub const CLOSED: &str = "closed";
/// The reason of a line that announces a decision, where the audit is required.
pub const BEGUN: &str = "begun";

#[cfg(test)]
mod tests {
    use super::*;

    /// An audit of these reasons, denials that stand for some decisions each.
    fn audit(reasons: &[(&str, Option<u64>)], totals: Totals) -> Vec<String> {
        let (mut prev, mut lines) = (FIRST.to_owned(), Vec::new());
        for (seq, (reason, count)) in (1..).zip(reasons) {
            let last = *reason == CLOSED;
            let line = serde_json::json!({
                "seq": seq, "time": "2026-01-01T00:00:00Z", "phase": "agent",
                "kind": if last { "control" } else { "dns" }, "decision": if last { "allow" } else { "deny" },
                "reason": reason, "prev": prev,
            });
            let mut line: AuditLine = serde_json::from_value(line).unwrap();
            (line.count, line.totals) = (*count, last.then_some(totals));
            let text = serde_json::to_string(&line).unwrap();
            prev = Digest::of(&text).hex();
            lines.push(text);
        }
        lines
    }

    fn good() -> Vec<String> {
        let totals = Totals {
            allowed: 0,
            denied: 9,
        };
        audit(
            &[("a", None), ("b", Some(7)), ("c", None), (CLOSED, None)],
            totals,
        )
    }

    fn check(lines: &[String]) -> Verdict {
        let text = lines.join("\n") + "\n";
        let mut chain = Chain::default();
        for piece in text.as_bytes().chunks(11) {
            chain.push(piece);
        }
        chain.finish()
    }

    #[test]
    fn a_whole_audit_is_whole() {
        let verdict = check(&good());
        assert_eq!(
            (verdict.broken, verdict.end, verdict.lines),
            (None, End::Closed, 4)
        );
        assert_eq!(
            verdict.decisions,
            Totals {
                allowed: 1,
                denied: 9
            }
        );
    }

    #[test]
    fn the_first_broken_line_is_named() {
        let mut left_out = good();
        left_out.remove(1);
        let mut changed = good();
        changed[1] = changed[1].replace("\"b\"", "\"x\"");
        let mut put_in = good();
        put_in.insert(2, put_in[1].clone());
        let mut swapped = good();
        swapped.swap(0, 1);
        let mut after = good();
        after.push(after[0].clone());
        let mut noise = good();
        "no JSON".clone_into(&mut noise[2]);
        for (lines, line, word) in [
            (left_out, 2, "its number is 3"),
            (changed, 3, "the hash"),
            (put_in, 3, "its number is 2"),
            (swapped, 1, "its number is 2"),
            (after, 5, "comes after"),
            (noise, 3, "no line of an audit"),
        ] {
            let broken = check(&lines).broken.unwrap();
            assert_eq!(broken.line, line, "{broken:?}");
            assert!(broken.fault.contains(word), "{broken:?}");
        }
    }

    #[test]
    fn a_missing_end_is_seen() {
        assert_eq!(check(&good()[..3]).end, End::Open);
        let mut chain = Chain::default();
        chain.push(good()[0].as_bytes());
        assert_eq!(chain.finish().end, End::Torn);
        let few = Totals {
            allowed: 0,
            denied: 3,
        };
        let wrong = check(&audit(&[("a", None), (CLOSED, None)], few)).broken.unwrap();
        assert!(wrong.line == 2 && wrong.fault.contains("counts"), "{wrong:?}");
    }
}
