//! The lines of a proxy's write-ahead log.

use serde::{Deserialize, Serialize};

use super::Entry;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// RFC 3339, UTC.
    pub time: String,
    /// What the account did.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Ends a line that was cut off; no JSON document goes on like this.
pub const CUT_OFF: &str = " cut off";

/// Reads a log back, without lines that were cut off: a reservation that was cut off was never acted upon, and the cut
/// end of a request leaves it unresolved.
///
/// Any other line that is none was damaged afterwards. What it said, and what the lines after it rest on, is not known:
/// the account ends there as [`Entry::Damaged`].
pub fn read(text: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_cut_off = lines.peek().is_none() || line.ends_with(CUT_OFF.as_bytes());
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => entries.push(line.entry),
            Err(_) if is_cut_off => {}
            Err(_) => {
                entries.push(Entry::Damaged);
                break;
            }
        }
    }
    entries
}
