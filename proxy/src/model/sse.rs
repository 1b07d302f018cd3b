//! Passes a stream of server-sent events on while reading the usage out of it.
//!
//! Works on whole events, however they are cut over chunks. An event that carries nothing but the usage is left out when
//! the workload did not ask for it.

use bytes::{Bytes, BytesMut};

use super::usage::{Tally, Told};

/// Reads one stream.
#[derive(Debug)]
pub struct Events {
    pending: BytesMut,
    /// Up to here no end of an event was found.
    searched: usize,
    hide_usage: bool,
    /// Set after an event that was too long to be read; only its end is looked for.
    skipping: bool,
    tally: Tally,
}

impl Events {
    /// With `hide_usage`, an event with usage and no choices is not passed on.
    pub fn new(tally: Tally, hide_usage: bool) -> Self {
        Self {
            pending: BytesMut::new(),
            searched: 0,
            hide_usage,
            skipping: false,
            tally,
        }
    }

    /// Takes a chunk and gives what can be passed on.
    pub fn push(&mut self, chunk: &[u8]) -> Bytes {
        self.pending.extend_from_slice(chunk);
        let mut out = BytesMut::new();
        while let Some(end) = self.end_of_event() {
            let event = self.pending.split_to(end);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) || self.read(&event) == Pass::On {
                out.unsplit(event);
            }
        }
        if self.pending.len() > LONGEST_EVENT {
            self.skipping = true;
            self.searched = 0;
            out.unsplit(self.pending.split());
        }
        out.freeze()
    }

    /// The rest, when the stream has ended.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.pending.split();
        if self.skipping || self.read(&rest) == Pass::On {
            rest.freeze()
        } else {
            Bytes::new()
        }
    }

    /// What was told so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The length of the first event with its empty line; line ends are LF, CRLF or CR.
    fn end_of_event(&mut self) -> Option<usize> {
        let bytes = &self.pending;
        let mut at = self.searched;
        while let Some(found) = bytes[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let first = at + found;
            let Some(next) = after_line_end(bytes, first) else {
                // A CR at the very end may be half of a CRLF.
                self.searched = first;
                return None;
            };
            if let Some(byte) = bytes.get(next)
                && matches!(byte, b'\n' | b'\r')
            {
                let end = after_line_end(bytes, next);
                if end.is_none() {
                    self.searched = first;
                }
                return end;
            }
            if next >= bytes.len() {
                self.searched = first;
                return None;
            }
            at = next;
        }
        self.searched = bytes.len();
        None
    }

    fn read(&mut self, event: &[u8]) -> Pass {
        let data = data(event);
        if data.is_empty() {
            return Pass::On;
        }
        let told = self.tally.event(&data);
        if self.hide_usage && told == Told::BareUsage {
            Pass::LeaveOut
        } else {
            Pass::On
        }
    }
}

#[derive(PartialEq, Eq)]
enum Pass {
    On,
    LeaveOut,
}

/// Where the line after the line end at `at` begins; `None` when that is not known yet.
fn after_line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes[at], bytes.get(at + 1)) {
        (b'\r', Some(b'\n')) => Some(at + 2),
        (b'\r', None) => None,
        _ => Some(at + 1),
    }
}

/// The `data` lines of an event, joined by line ends.
fn data(event: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(value) = line.strip_prefix(b"data:") {
            if !joined.is_empty() {
                joined.push(b'\n');
            }
            joined.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    joined
}

/// Above this an event is passed on unread, and its request stays unsettled.
const LONGEST_EVENT: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        fixture,
        model::{bound::Prices, spec::Api},
    };

    const STREAM: &str = ": OPENROUTER PROCESSING\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"data: {\\\"usage\\\":{\\\"cost\\\":0}}\"}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"cost\":0.25}}\r\n\r\ndata: [DONE]\n\n";

    /// What is passed on, and what it cost.
    fn run(chunks: &[&[u8]], hide: bool) -> (Vec<u8>, Option<String>) {
        let mut events = Events::new(Tally::new(Api::Chat), hide);
        let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| events.push(chunk)).collect();
        out.extend(events.finish());
        let small = &fixture::assignment().prices[&"test/small".parse().unwrap()];
        let prices = Prices::of(&[small]).unwrap();
        let bill = events.tally().bill(false, &prices);
        (out, bill.map(|bill| bill.cost.to_string()))
    }

    #[test]
    fn usage_is_read_and_everything_passed_on() {
        let (out, usage) = run(&[STREAM.as_bytes()], false);
        assert_eq!(out, STREAM.as_bytes());
        assert_eq!(usage.as_deref(), Some("0.25"));
    }

    #[test]
    fn an_event_with_nothing_but_usage_is_hidden_when_not_asked_for() {
        let (out, usage) = run(&[STREAM.as_bytes()], true);
        let text = String::from_utf8(out).unwrap();
        assert!(usage.is_some() && !text.contains("0.25") && text.ends_with("data: [DONE]\n\n"));
        assert!(text.contains("OPENROUTER PROCESSING"));
    }

    #[test]
    fn an_event_of_several_data_lines_is_joined() {
        let (_, usage) = run(
            &[b"data: {\"choices\":[],\"usage\":\ndata: {\"cost\":0.25}}\n\n"],
            false,
        );
        assert_eq!(usage.as_deref(), Some("0.25"));
    }

    #[test]
    fn a_cut_stream_still_gives_what_it_had() {
        let (out, usage) = run(&[b"data: {\"choices\":[]}\n\ndata: {\"usage\":{\"cos"], false);
        assert!(out.ends_with(b"{\"cos"));
        assert_eq!(usage, None);
    }

    #[test]
    fn an_endless_event_is_passed_on_unread() {
        let long = [
            b"data: \"".as_slice(),
            &vec![b'x'; LONGEST_EVENT],
            b"\"\n\n",
            STREAM.as_bytes(),
        ]
        .concat();
        let chunks: Vec<&[u8]> = long.chunks(100_000).collect();
        let (out, usage) = run(&chunks, true);
        assert!(out.len() > LONGEST_EVENT && usage.is_some());
    }

    proptest! {
        #[test]
        fn no_way_of_cutting_changes_anything(cuts in prop::collection::vec(1..40_usize, 1..60), hide in any::<bool>()) {
            let whole = run(&[STREAM.as_bytes()], hide);
            let (mut rest, mut chunks) = (STREAM.as_bytes(), Vec::new());
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            prop_assert_eq!(run(&chunks, hide), whole);
        }
    }
}
