//! The write-ahead log: what the account did, one JSON line each.
//!
//! A line is with the kernel (`write(2)`) before [`Log::append`] returns, which is what the proxy's own death needs;
//! [`Log::sync`] brings it to the disk, off the path of requests, for the node's death.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use assay_core::{
    clock::Clock,
    ledger::{Entry, log::Line},
};

/// Writes the log.
pub struct Log {
    file: Arc<File>,
    clock: Arc<dyn Clock>,
    written: Mutex<Written>,
    unsynced: AtomicBool,
}

#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    /// The last line may have been written in part.
    torn: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// Writes into an empty file.
    pub fn new(file: File, clock: Arc<dyn Clock>) -> Self {
        Self {
            file: Arc::new(file),
            clock,
            written: Mutex::default(),
            unsynced: AtomicBool::new(false),
        }
    }

    /// Hands one line to the kernel.
    pub fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
        // For the case that the line before was cut off: one of its own ends it.
        bytes.push(b'\n');
        let time = self.clock.now().to_string();
        let entry = entry.clone();
        serde_json::to_writer(&mut bytes, &Line { time, entry })?;
        bytes.push(b'\n');
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = if written.torn { &bytes[..] } else { &bytes[1..] };
        written.torn = true;
        (&*self.file).write_all(bytes)?;
        written.torn = false;
        written.bytes += bytes.len() as u64;
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Brings what was appended to the disk. Blocks; call it where that does no harm.
    pub fn sync(&self) -> io::Result<()> {
        if self.unsynced.swap(false, Ordering::AcqRel) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Is there anything to sync?
    pub fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }
}

const TYPICAL_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use assay_core::{
        clock::SystemClock,
        ledger::{Bill, Fault, log::read},
    };

    use super::*;

    #[test]
    fn lines_are_read_back_up_to_the_one_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::new(File::create(&path).unwrap(), Arc::new(SystemClock));
        let entries: Vec<Entry> = (1..=3)
            .map(|id| Entry::Settle {
                id,
                bill: Bill::default(),
                fault: Fault::Nobody,
            })
            .collect();
        for entry in &entries {
            log.append(entry).unwrap();
        }
        log.sync().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(log.bytes(), bytes.len() as u64);
        assert_eq!(read(&bytes), entries);
        assert_eq!(read(&bytes[..bytes.len() - 5]), entries[..2]);
        let torn = [&bytes[..bytes.len() - 5], b"\n", &bytes].concat();
        assert_eq!(read(&torn)[2..], entries);
    }
}
