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

/// Reads a log back. Stops at a line that was cut off by a crash.
pub fn read(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n')
        .map_while(|line| serde_json::from_slice::<Line>(line).ok())
        .map(|line| line.entry)
        .collect()
}
