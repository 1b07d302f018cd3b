//! The lines of a proxy's write-ahead log, each with a sum over itself and all before it.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::Entry;
use crate::digest::{Digest, Hasher};

/// One line of the log, without its sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// RFC 3339, UTC.
    pub time: String,
    /// What the account did.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The sum of the last line: where the next one goes on.
///
/// A line ends in a member `sum`: the SHA-256 of the sum before it and of its own bytes up to there. No line can be
/// changed, left out or moved without the sums telling, but for the last ones: a log that ends early is one of a proxy
/// that died early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain(Option<Digest>);

impl Chain {
    /// What is appended to the log for a line, its end included, and the chain after it. The first line stands there
    /// twice: without it nobody would know what was granted.
    ///
    /// # Errors
    /// The line is none in JSON; no entry is like that.
    pub fn seal(self, line: &Line) -> serde_json::Result<(String, Self)> {
        let mut text = serde_json::to_string(line)?;
        text.truncate(text.len() - CLOSE.len());
        let sum = self.sum(text.as_bytes());
        text.push_str(SUM);
        text.push_str(&sum.hex());
        text.push_str(END);
        text.push('\n');
        if self.0.is_none() {
            text = text.repeat(2);
        }
        Ok((text, Self(Some(sum))))
    }

    /// What a line says, and the chain after it; `None` for what is no line that comes next.
    fn open(self, text: &[u8]) -> Option<(Entry, Self)> {
        let own = text.len().checked_sub(SUM.len() + HEX_DIGITS + END.len())?;
        let (own, tail) = text.split_at(own);
        let told = tail.strip_prefix(SUM.as_bytes())?.strip_suffix(END.as_bytes())?;
        let sum = self.sum(own);
        if told != sum.hex().as_bytes() {
            return None;
        }
        let line: Line = serde_json::from_slice(&[own, CLOSE.as_bytes()].concat()).ok()?;
        Some((line.entry, Self(Some(sum))))
    }

    fn sum(self, own: &[u8]) -> Digest {
        let mut hasher = Hasher::default();
        if let Some(before) = self.0 {
            hasher.update(before.bytes());
        }
        hasher.update(own);
        hasher.finish()
    }
}

/// Ends a line that was cut off; no JSON document goes on like this.
pub const CUT_OFF: &str = " cut off";
const SUM: &str = ",\"sum\":\"";
const END: &str = "\"}";
const CLOSE: &str = "}";
const HEX_DIGITS: usize = 64;

/// Reads a log back, without lines that were cut off: a reservation that was cut off was never acted upon, and the cut
/// end of a request leaves it unresolved.
///
/// Any other line that does not go on from the one before was damaged, or one before it is missing. What it said, and what
/// the lines after it rest on, is not known: the account ends there as [`Entry::Damaged`].
pub fn read(text: &[u8]) -> Vec<Entry> {
    let (mut entries, mut chain) = (Vec::new(), Chain::default());
    let mut lines = text.split(|byte| *byte == b'\n').enumerate().peekable();
    let mut first: &[u8] = &[];
    while let Some((number, line)) = lines.next() {
        if number == 0 {
            first = line;
        } else if number == 1 && line == first {
            continue;
        }
        let is_last = lines.peek().is_none();
        if let Some((entry, next)) = chain.open(line) {
            entries.push(entry);
            chain = next;
        } else if number > 0 && !is_torn(line, is_last) {
            entries.push(Entry::Damaged);
            break;
        }
    }
    entries
}

/// Is it what a crash, or a full disk, has left of a line?
fn is_torn(line: &[u8], is_last: bool) -> bool {
    let parsed = |text| serde_json::from_slice::<IgnoredAny>(text);
    match line.strip_suffix(CUT_OFF.as_bytes()) {
        Some(begin) => parsed(begin).map_or_else(|error| error.is_eof(), |_| true),
        None => is_last && parsed(line).is_err_and(|error| error.is_eof()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Bill, Fault};

    fn entry(id: u64) -> Entry {
        Entry::Settle {
            id,
            bill: Bill::default(),
            fault: Fault::Nobody,
        }
    }

    /// As a proxy writes it.
    fn log(most: u64) -> Vec<String> {
        let (mut chain, mut lines) = (Chain::default(), Vec::new());
        for id in 1..=most {
            let time = "2026-11-20T00:00:00Z".to_owned();
            let entry = entry(id);
            let (text, next) = chain.seal(&Line { time, entry }).unwrap();
            lines.extend(text.lines().map(str::to_owned));
            chain = next;
        }
        lines
    }

    fn text(lines: &[String]) -> Vec<u8> {
        lines
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\n"].concat())
            .collect()
    }

    fn ids(most: u64) -> Vec<Entry> {
        (1..=most).map(entry).collect()
    }

    fn damaged_after(most: u64) -> Vec<Entry> {
        [ids(most), vec![Entry::Damaged]].concat()
    }

    #[test]
    fn a_line_is_json_whose_last_member_is_its_sum() {
        let lines = log(2);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], lines[1], "the first one stands there twice");
        let value: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
        assert_eq!(value["sum"].as_str().unwrap().len(), HEX_DIGITS);
        assert_eq!(read(&text(&lines)), ids(2));
    }

    #[test]
    fn a_bit_that_flips_anywhere_is_found() {
        let whole = text(&log(4));
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            let line = ends.iter().filter(|end| **end < at).count();
            let expected = match line {
                // Either of the first two is enough; a line end that is gone makes one of both.
                0 if whole[at] == b'\n' => damaged_after(0),
                0 => ids(4),
                1 => damaged_after(1),
                _ => damaged_after(line as u64 - 1),
            };
            assert_eq!(read(&flipped), expected, "byte {at} in line {line}");
        }
    }

    #[test]
    fn lines_that_are_left_out_or_moved_are_found() {
        let lines = log(5);
        for gone in 2..lines.len() - 1 {
            let mut rest = lines.clone();
            rest.remove(gone);
            assert_eq!(
                read(&text(&rest)),
                damaged_after(gone as u64 - 1),
                "without line {gone}"
            );
            let mut moved = lines.clone();
            moved.swap(gone, gone + 1);
            assert_eq!(
                read(&text(&moved)),
                damaged_after(gone as u64 - 1),
                "line {gone} moved"
            );
        }
        // A log of which the end is gone is one of a proxy that died.
        assert_eq!(read(&text(&lines[..4])), ids(3));
        let other = Chain::default().seal(&Line {
            time: String::new(),
            entry: entry(9),
        });
        let mut mixed = lines;
        mixed[3] = other.unwrap().0.lines().next().unwrap().to_owned();
        assert_eq!(read(&text(&mixed)), damaged_after(2), "a line of another log");
    }
}
