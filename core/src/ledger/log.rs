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

/// Reads a log back, without lines that were cut off: a reservation that was cut off was never acted upon, and the cut
/// end of a request leaves it unresolved.
pub fn read(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
        .map(|line| line.entry)
        .collect()
}
