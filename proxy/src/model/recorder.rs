//! Records model calls with their bodies, where the policy consents.
//!
//! The file is its own, apart from audit and log, and ends at [`recording::MOST_BYTES`] with a line that says so. A body
//! is scrubbed of every credential before it is written. Answers are held in memory until they have ended, so all of
//! them together have a bound too; one that is beyond it is recorded as far as it came.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use assay_core::{
    clock::Clock,
    digest::Digest,
    egress::HostName,
    ledger::Bill,
    price::ModelSlug,
    recording::{self, Call, Extent, Full},
};
use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;

use super::{scrub::Secrets, spec::Api};
use crate::phase::Stage;

/// Writes the recording.
pub struct Recorder {
    clock: Arc<dyn Clock>,
    secrets: Vec<Secrets>,
    file: Mutex<Written>,
    /// Bytes of answers in memory.
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Written {
    file: File,
    begun: u64,
    bytes: u64,
    full: bool,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

/// A call that has begun.
#[derive(Debug)]
pub struct Draft {
    recorder: Arc<Recorder>,
    seq: u64,
    begun: String,
    stage: Stage,
    api: Api,
    host: HostName,
    model: ModelSlug,
    key: Digest,
    request: Bytes,
    answer: Vec<u8>,
    too_long: bool,
}

/// Which call it is.
#[derive(Debug)]
pub struct Subject {
    /// Phase and step.
    pub stage: Stage,
    /// The API.
    pub api: Api,
    /// The service.
    pub host: HostName,
    /// The model asked for.
    pub model: ModelSlug,
    /// The name of the request.
    pub key: Digest,
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    /// The status that the workload got.
    pub status: StatusCode,
    /// The content type.
    pub content_type: String,
    /// Whether the answer came to its end.
    pub complete: bool,
    /// What it cost.
    pub bill: Bill,
}

impl Recorder {
    /// Into an empty file, without any of these credentials.
    pub fn new(file: File, secrets: Vec<Secrets>, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            secrets,
            file: Mutex::new(Written {
                file,
                begun: 0,
                bytes: 0,
                full: false,
            }),
            held: Arc::default(),
        }
    }

    /// A call begins.
    pub fn begin(self: &Arc<Self>, subject: Subject) -> Draft {
        let seq = {
            let mut written = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            written.begun += 1;
            written.begun
        };
        Draft {
            recorder: Arc::clone(self),
            seq,
            begun: self.clock.now().to_string(),
            stage: subject.stage,
            api: subject.api,
            host: subject.host,
            model: subject.model,
            key: subject.key,
            request: Bytes::new(),
            answer: Vec::new(),
            too_long: false,
        }
    }

    fn scrub(&self, text: &[u8]) -> String {
        let mut clean = Bytes::copy_from_slice(text);
        for secrets in &self.secrets {
            clean = secrets.blank(clean);
        }
        String::from_utf8_lossy(&clean).into_owned()
    }

    fn write(&self, call: &Call) -> io::Result<()> {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        let mut written = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if written.full {
            return Ok(());
        }
        let end = written.bytes.saturating_add(line.len() as u64);
        if end > recording::MOST_BYTES - ROOM_FOR_END {
            written.full = true;
            line = serde_json::to_vec(&Full { full_at: call.seq })?;
            line.push(b'\n');
        }
        written.file.write_all(&line)?;
        written.bytes = written.bytes.saturating_add(line.len() as u64);
        Ok(())
    }
}

impl Draft {
    /// The body that goes out; that of the last try holds.
    pub fn sends(&mut self, body: &Bytes) {
        self.request = body.clone();
    }

    /// A piece of what the workload gets.
    pub fn takes(&mut self, piece: &[u8]) {
        let held = self.recorder.held.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
        if self.too_long || held > MOST_HELD || self.answer.len() + piece.len() > MOST_ANSWER {
            self.recorder.held.fetch_sub(piece.len(), Ordering::Relaxed);
            self.too_long = true;
        } else {
            self.answer.extend_from_slice(piece);
        }
    }

    /// Writes it down. What cannot be written is logged; a recording is no condition of anything.
    pub fn end(mut self, outcome: Outcome) {
        let answer = std::mem::take(&mut self.answer);
        self.recorder.held.fetch_sub(answer.len(), Ordering::Relaxed);
        let request = self.recorder.scrub(&self.request);
        let Ok(request) = RawValue::from_string(request) else {
            return tracing::error!("a request cannot be recorded");
        };
        let call = Call {
            seq: self.seq,
            begun: std::mem::take(&mut self.begun),
            ended: self.recorder.clock.now().to_string(),
            phase: self.stage.phase,
            step: self.stage.step,
            api: self.api.name().to_owned(),
            host: self.host.clone(),
            model: self.model.clone(),
            key: self.key,
            status: outcome.status.as_u16(),
            content_type: outcome.content_type,
            extent: match (self.too_long, outcome.complete) {
                (true, _) => Extent::TooLong,
                (false, true) => Extent::Whole,
                (false, false) => Extent::Cut,
            },
            cost: outcome.bill.cost,
            input_tokens: outcome.bill.input_tokens,
            cached_tokens: outcome.bill.cached_tokens,
            output_tokens: outcome.bill.output_tokens,
            request,
            answer: self.recorder.scrub(&answer),
        };
        if let Err(error) = self.recorder.write(&call) {
            tracing::error!(%error, "the recording cannot be written");
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.recorder.held.fetch_sub(self.answer.len(), Ordering::Relaxed);
    }
}

/// Of one answer, bytes. Streams tell each word in an event of a few hundred.
const MOST_ANSWER: usize = 8 << 20;
/// Of all answers under way.
const MOST_HELD: usize = 32 << 20;
/// The line that says that it is full.
const ROOM_FOR_END: u64 = 64;

#[cfg(test)]
mod tests {
    use assay_core::{clock::SystemClock, phase::EgressPhase};

    use super::*;

    const KEY: &str = "sk-or-v1-0123456789abcdef";

    fn recorder(path: &std::path::Path) -> Arc<Recorder> {
        let file = File::create(path).unwrap();
        Arc::new(Recorder::new(file, vec![Secrets::of(KEY)], Arc::new(SystemClock)))
    }

    fn call(recorder: &Arc<Recorder>, answer: &[u8]) {
        let mut draft = recorder.begin(Subject {
            stage: EgressPhase::Agent.into(),
            api: Api::Chat,
            host: "models.example.com".parse().unwrap(),
            model: "test/small".parse().unwrap(),
            key: Digest::of("x"),
        });
        draft.sends(&Bytes::from(format!("{{\"messages\":[\"{KEY}\"]}}")));
        draft.takes(answer);
        draft.end(Outcome {
            status: StatusCode::OK,
            content_type: "application/json".to_owned(),
            complete: true,
            bill: Bill::default(),
        });
    }

    #[test]
    fn bodies_are_kept_without_the_credential() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let recorder = recorder(&path);
        call(&recorder, format!("said {KEY}").as_bytes());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(KEY) && text.contains("said ****"), "{text}");
        let calls = recording::calls(text.as_bytes());
        assert_eq!((calls.len(), calls[0].extent), (1, Extent::Whole));
        assert_eq!(recorder.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn long_answers_and_a_full_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let recorder = recorder(&path);
        call(&recorder, &vec![b'x'; MOST_ANSWER + 1]);
        for _ in 0..9 {
            call(&recorder, &vec![b'x'; MOST_ANSWER]);
        }
        let bytes = std::fs::read(&path).unwrap();
        let calls = recording::calls(&bytes);
        assert_eq!((calls.len(), calls[0].extent), (8, Extent::TooLong));
        assert!(bytes.len() as u64 <= recording::MOST_BYTES);
        assert!(bytes.ends_with(b"{\"full_at\":9}\n"));
        assert_eq!(recorder.held.load(Ordering::Relaxed), 0);
    }
}
