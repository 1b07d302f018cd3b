//! Output of a phase on its way to the API: the first and the last megabytes, in chunks, in bounded memory.
//!
//! Draining never waits for the API. What comes after the head is held back as a ring and stored when the phase
//! ends; what lies between is a gap that is told.

pub mod follow;
pub mod ship;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// How much is kept of each stream.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Bytes from the start.
    pub head: u64,
    /// Bytes before the end.
    pub tail: u64,
    /// Largest chunk.
    pub chunk: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            head: 8 << 20,
            tail: 8 << 20,
            chunk: 256 << 10,
        }
    }
}

/// Bytes and where they stand in their stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Of the first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Bytes that are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first byte that is lost.
    pub from: u64,
    /// The first byte after it that is kept.
    pub to: u64,
}

/// One stream of one phase.
#[derive(Debug)]
pub struct StreamBuffer {
    retention: Retention,
    ready: VecDeque<Chunk>,
    tail: VecDeque<Chunk>,
    tail_bytes: u64,
    end: u64,
    gaps: Vec<Gap>,
}

impl StreamBuffer {
    /// A stream whose first `stored` bytes are stored already.
    pub fn new(retention: Retention, stored: u64) -> Self {
        Self {
            retention,
            ready: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            end: stored,
            gaps: Vec::new(),
        }
    }

    /// Where the stream ends so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes bytes at `offset`. Bytes that were taken before are passed over; missing ones become a gap.
    pub fn push(&mut self, offset: u64, mut bytes: Bytes) {
        if offset > self.end {
            self.skip_to(offset);
        }
        let known = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        if known >= bytes.len() {
            return;
        }
        let mut rest = bytes.split_off(known);
        let room = usize::try_from(self.retention.head.saturating_sub(self.end)).unwrap_or(usize::MAX);
        let head = rest.split_to(room.min(rest.len()));
        self.append(head, Side::Head);
        self.append(rest, Side::Tail);
    }

    /// Says that the bytes before `to` are lost.
    pub fn skip_to(&mut self, to: u64) {
        if to > self.end {
            self.gaps.push(Gap { from: self.end, to });
            self.end = to;
        }
    }

    /// A full chunk, or with `any` whatever is there.
    pub fn take(&mut self, any: bool) -> Option<Chunk> {
        let first = self.ready.front()?;
        let offset = first.offset;
        let mut length = 0;
        let mut next = offset;
        for chunk in &self.ready {
            if chunk.offset != next || length >= self.retention.chunk {
                break;
            }
            length += chunk.bytes.len();
            next += chunk.bytes.len() as u64;
        }
        let followed_by_more = self.ready.iter().any(|chunk| chunk.offset >= next);
        if !any && !followed_by_more && length < self.retention.chunk {
            return None;
        }
        Some(self.cut(offset, length.min(self.retention.chunk)))
    }

    /// The stream has ended: what was held back becomes ready.
    pub fn finish(&mut self) {
        if let Some(first) = self.tail.front() {
            let head_end = self.retention.head.min(first.offset);
            let covered = self
                .gaps
                .iter()
                .any(|gap| gap.from <= head_end && gap.to >= first.offset);
            if first.offset > head_end && !covered {
                self.gaps.push(Gap {
                    from: head_end,
                    to: first.offset,
                });
            }
        }
        self.tail_bytes = 0;
        self.ready.append(&mut self.tail);
    }

    /// Gaps found since the last call.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// Nothing is ready.
    pub fn is_drained(&self) -> bool {
        self.ready.is_empty()
    }

    fn append(&mut self, bytes: Bytes, side: Side) {
        if bytes.is_empty() {
            return;
        }
        let chunk = Chunk {
            offset: self.end,
            bytes,
        };
        self.end += chunk.bytes.len() as u64;
        match side {
            Side::Head => self.ready.push_back(chunk),
            Side::Tail => {
                self.tail_bytes += chunk.bytes.len() as u64;
                self.tail.push_back(chunk);
                self.shorten_tail();
            }
        }
    }

    fn shorten_tail(&mut self) {
        while self.tail_bytes > self.retention.tail {
            let Some(mut first) = self.tail.pop_front() else {
                return;
            };
            let over = usize::try_from(self.tail_bytes - self.retention.tail).unwrap_or(usize::MAX);
            let cut = over.min(first.bytes.len());
            self.tail_bytes -= cut as u64;
            if cut < first.bytes.len() {
                first.offset += cut as u64;
                first.bytes = first.bytes.slice(cut..);
                self.tail.push_front(first);
            }
        }
    }

    fn cut(&mut self, offset: u64, length: usize) -> Chunk {
        let mut bytes = BytesMut::with_capacity(length);
        while bytes.len() < length {
            let Some(mut chunk) = self.ready.pop_front() else {
                break;
            };
            let wanted = (length - bytes.len()).min(chunk.bytes.len());
            bytes.extend_from_slice(&chunk.bytes.split_to(wanted));
            if !chunk.bytes.is_empty() {
                chunk.offset += wanted as u64;
                self.ready.push_front(chunk);
            }
        }
        Chunk {
            offset,
            bytes: bytes.freeze(),
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Head,
    Tail,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Retention = Retention {
        head: 10,
        tail: 6,
        chunk: 4,
    };

    fn drain(buffer: &mut StreamBuffer) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| buffer.take(true))
            .map(|chunk| (chunk.offset, chunk.bytes.to_vec()))
            .collect()
    }

    #[test]
    fn chunks_are_full_until_asked_for_any() {
        let mut buffer = StreamBuffer::new(SMALL, 0);
        buffer.push(0, Bytes::from_static(b"abc"));
        assert_eq!(buffer.take(false), None);
        buffer.push(3, Bytes::from_static(b"de"));
        assert_eq!(buffer.take(false).unwrap().bytes, "abcd");
        assert_eq!(buffer.take(false), None);
        assert_eq!(drain(&mut buffer), [(4, b"e".to_vec())]);
    }

    #[test]
    fn head_and_tail_are_kept_and_the_middle_is_a_gap() {
        let mut buffer = StreamBuffer::new(SMALL, 0);
        for (index, byte) in (b'a'..=b'z').enumerate() {
            buffer.push(index as u64, Bytes::copy_from_slice(&[byte]));
        }
        assert_eq!(
            drain(&mut buffer),
            [(0, b"abcd".to_vec()), (4, b"efgh".to_vec()), (8, b"ij".to_vec())]
        );
        buffer.finish();
        assert_eq!(drain(&mut buffer), [(20, b"uvwx".to_vec()), (24, b"yz".to_vec())]);
        assert_eq!(buffer.take_gaps(), [Gap { from: 10, to: 20 }]);
    }

    #[test]
    fn repeated_bytes_are_passed_over_and_missing_ones_told() {
        let mut buffer = StreamBuffer::new(SMALL, 2);
        buffer.push(0, Bytes::from_static(b"abcd"));
        assert_eq!(drain(&mut buffer), [(2, b"cd".to_vec())]);
        buffer.push(6, Bytes::from_static(b"gh"));
        assert_eq!(buffer.take_gaps(), [Gap { from: 4, to: 6 }]);
        assert_eq!(drain(&mut buffer), [(6, b"gh".to_vec())]);
    }

    #[test]
    fn one_huge_piece_is_bounded_too() {
        let mut buffer = StreamBuffer::new(SMALL, 0);
        buffer.push(0, Bytes::from(vec![b'x'; 1000]));
        buffer.finish();
        let kept: usize = drain(&mut buffer).iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(kept, 16);
        assert_eq!(buffer.end(), 1000);
    }
}
