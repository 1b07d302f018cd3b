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
    ledger::{
        Entry,
        log::{CUT_OFF, Chain, Line},
    },
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
    chain: Chain,
    /// The last line was written in part.
    torn: bool,
    /// The last line could not be written.
    failing: bool,
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
    ///
    /// # Errors
    /// It is not there, e.g. for want of space. What got there of it reads as no line.
    pub fn append(&self, entry: &Entry) -> io::Result<()> {
        let time = self.clock.now().to_string();
        let entry = entry.clone();
        let line = Line { time, entry };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let appended = written.append(&self.file, &line);
        let failed = std::mem::replace(&mut written.failing, appended.is_err());
        match (&appended, failed) {
            (Err(error), false) => tracing::error!(%error, "the write-ahead log cannot be written"),
            (Ok(()), true) => tracing::info!("the write-ahead log can be written again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
        self.unsynced.store(true, Ordering::Release);
        appended
    }

    /// Bytes in the file, those of lines that were cut off included.
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

impl Written {
    /// A line that was cut off is marked as such first: without its line end alone it would read as a whole one.
    fn append(&mut self, file: &File, line: &Line) -> io::Result<()> {
        let (text, chain) = self.chain.seal(line)?;
        if self.torn {
            self.put(file, CUT_OFF.as_bytes())?;
            self.put(file, b"\n")?;
            self.torn = false;
        }
        let before = self.bytes;
        let put = self.put(file, text.as_bytes());
        self.torn = put.is_err() && self.bytes > before;
        if put.is_ok() {
            self.chain = chain;
        }
        put
    }

    fn put(&mut self, mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.bytes += length as u64;
                    bytes = &bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

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
        let last = bytes.split(|byte| *byte == b'\n').rev().nth(1).unwrap();
        for missing in 1..20 {
            // What was cut off was written again.
            let torn = [&bytes[..bytes.len() - missing], b" cut off\n", last, b"\n"].concat();
            assert_eq!(read(&torn), entries, "{missing}");
        }
    }
}
