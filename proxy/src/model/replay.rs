//! Answers model calls from a recording: no service is dialled, and nothing costs anything.
//!
//! The recording comes over the control interface in pieces and is kept in a file. A call is answered by the recorded
//! answer to the same request in the same phase; asked several times, by one after the other in their order. What was
//! not recorded is refused.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    sync::{Mutex, PoisonError},
};

use assay_core::{
    control::proxy::Loaded,
    digest::{Digest, Hasher},
    ledger::{Bill, Fault},
    money::PicoUsd,
    phase::EgressPhase,
    recording::{Call, Extent, MOST_BYTES, Source},
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    answer::{self, Answer},
    refusal::Refusal,
};
use crate::account::Reservation;

/// A recording to answer from.
#[derive(Debug)]
pub struct Replay {
    source: Source,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    /// While it comes.
    hasher: Hasher,
    /// Once it is there.
    index: Option<BTreeMap<(EgressPhase, Digest), VecDeque<Place>>>,
}

/// Where a line is in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    begin: u64,
    length: usize,
}

/// Why a piece is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It leaves out what comes before it.
    #[error("the piece begins at {begin}; {bytes} bytes are there")]
    Gap {
        /// Where it begins.
        begin: u64,
        /// What is there.
        bytes: u64,
    },
    /// It is more than the assignment names, or than any recording has.
    #[error("the recording is longer than it should be")]
    TooLong,
    /// It is another one than the assignment names.
    #[error("the recording does not have the digest that names it")]
    WrongDigest,
    /// The file.
    #[error("keep the recording")]
    File(#[from] io::Error),
}

impl Replay {
    /// Of the recording that the assignment names, in an empty file.
    pub fn new(source: Source, file: File) -> Self {
        let state = State {
            file,
            bytes: 0,
            hasher: Hasher::default(),
            index: None,
        };
        Self {
            source,
            state: Mutex::new(state),
        }
    }

    /// Takes the next piece. What is there already is ignored.
    pub fn load(&self, begin: u64, piece: &[u8]) -> Result<Loaded, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = state.bytes;
        if begin > bytes {
            return Err(Error::Gap { begin, bytes });
        }
        let known = usize::try_from(bytes - begin).unwrap_or(usize::MAX);
        let new = piece.get(known..).unwrap_or_default();
        let end = bytes.saturating_add(new.len() as u64);
        if end > self.source.size_bytes.min(MOST_BYTES) {
            return Err(Error::TooLong);
        }
        state.file.write_all(new)?;
        state.hasher.update(new);
        state.bytes = end;
        if end == self.source.size_bytes && state.index.is_none() {
            if std::mem::take(&mut state.hasher).finish() != self.source.digest {
                return Err(Error::WrongDigest);
            }
            state.index = Some(index(&state.file, end)?);
        }
        Ok(Loaded {
            bytes: end,
            ready: state.index.is_some(),
        })
    }

    /// Is it there?
    pub fn is_ready(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .index
            .is_some()
    }

    /// The answer to a request, and what it used. The reservation ends at no cost.
    ///
    /// # Errors
    /// It was not recorded, or not as a whole.
    pub fn answer(
        &self,
        (phase, key): (EgressPhase, Digest),
        reservation: Reservation,
    ) -> Result<(Answer, Bill), Refusal> {
        let call = self.next(phase, key).and_then(|call| match call.extent {
            Extent::Whole | Extent::Cut => Ok(call),
            Extent::TooLong => Err(Refusal::policy(
                "replay_incomplete",
                "The recorded answer to this request was too long to be kept.",
            )),
        });
        let call = match call {
            Ok(call) => call,
            Err(refusal) => {
                reservation.release(Fault::Nobody);
                return Err(refusal);
            }
        };
        let bill = Bill {
            cost: PicoUsd::ZERO,
            input_tokens: call.input_tokens,
            cached_tokens: call.cached_tokens,
            written_tokens: 0,
            output_tokens: call.output_tokens,
        };
        let failed = call.status >= 400 || call.extent == Extent::Cut;
        reservation.settle(bill, if failed { Fault::Provider } else { Fault::Nobody });
        Ok((respond(call), bill))
    }

    fn next(&self, phase: EgressPhase, key: Digest) -> Result<Call, Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let not_there = || {
            Refusal::policy(
                "replay_not_loaded",
                "The recording that this run is answered from is not there yet.",
            )
        };
        let index = state.index.as_mut().ok_or_else(not_there)?;
        let place = index.get_mut(&(phase, key)).and_then(VecDeque::pop_front);
        let place = place.ok_or_else(|| {
            Refusal::policy(
                "replay_unknown_request",
                "This run is answered from a recording, which has no answer to this request.",
            )
        })?;
        read(&state.file, place).map_err(|error| {
            tracing::error!(%error, "a recorded answer cannot be read");
            Refusal::policy("replay_unreadable", "The recorded answer cannot be read.")
        })
    }
}

fn respond(call: Call) -> Answer {
    let body = if call.extent == Extent::Cut {
        answer::cut(call.answer.into())
    } else {
        answer::full(Bytes::from(call.answer))
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(call.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if let Ok(content_type) = HeaderValue::from_str(&call.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// Finds the lines, in the order in which their calls began.
fn index(file: &File, end: u64) -> io::Result<BTreeMap<(EgressPhase, Digest), VecDeque<Place>>> {
    let mut found = Vec::new();
    let mut reader = io::BufReader::new(At { file, next: 0, end });
    let (mut begin, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = io::BufRead::read_until(&mut reader, b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if let Ok(call) = serde_json::from_slice::<Call>(&line) {
            found.push((call.seq, (call.phase, call.key), Place { begin, length }));
        }
        begin += length as u64;
    }
    found.sort_by_key(|(seq, ..)| *seq);
    let mut index: BTreeMap<_, VecDeque<Place>> = BTreeMap::new();
    for (_, key, place) in found {
        index.entry(key).or_default().push_back(place);
    }
    Ok(index)
}

fn read(file: &File, place: Place) -> io::Result<Call> {
    let mut line = vec![0; place.length];
    file.read_exact_at(&mut line, place.begin)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Reads without moving the place at which the file is written.
struct At<'a> {
    file: &'a File,
    next: u64,
    end: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let length = self.file.read_at(&mut buffer[..wanted], self.next)?;
        self.next += length as u64;
        Ok(length)
    }
}
