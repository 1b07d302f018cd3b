//! The last bytes of a stream, with their offsets.

use std::collections::VecDeque;

/// How much of a stream is held.
pub(crate) const CAPACITY: usize = 1 << 20;

/// Holds the newest bytes. Takes any amount; what falls out is gone and known to be gone.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: VecDeque<u8>,
    end: u64,
    capacity: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self::of(CAPACITY)
    }
}

/// What a reader finds at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes.
    Bytes(Vec<u8>),
    /// They are gone; the first byte that is held stands at this offset.
    Lost(u64),
    /// Nothing new.
    Nothing,
}

impl Ring {
    /// One that holds so many bytes.
    pub(crate) fn of(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            end: 0,
            capacity,
        }
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(self.capacity)..];
        let overflow = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..overflow);
        self.bytes.extend(kept);
    }

    /// How many bytes ever came.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The last `most` bytes of what is held.
    pub(crate) fn tail(&self, most: usize) -> Vec<u8> {
        let skip = self.bytes.len().saturating_sub(most);
        self.bytes.iter().skip(skip).copied().collect()
    }

    /// What stands at `offset`, at most `most` bytes of it.
    pub(crate) fn read(&self, offset: u64, most: usize) -> Piece {
        let start = self.end - self.bytes.len() as u64;
        if offset >= self.end {
            return Piece::Nothing;
        }
        let Some(skip) = offset.checked_sub(start) else {
            return Piece::Lost(start);
        };
        // The offset lies within the ring, so it fits.
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Piece::Bytes(self.bytes.iter().skip(skip).take(most).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_holds() {
        let mut ring = Ring::default();
        ring.push(b"hello ");
        ring.push(b"world");
        assert_eq!(ring.read(0, 100), Piece::Bytes(b"hello world".to_vec()));
        assert_eq!(ring.read(6, 3), Piece::Bytes(b"wor".to_vec()));
        assert_eq!(ring.read(11, 3), Piece::Nothing);
        assert_eq!(ring.read(99, 3), Piece::Nothing);
    }

    #[test]
    fn what_fell_out_is_a_gap_with_its_end() {
        let mut ring = Ring::default();
        ring.push(b"lost");
        ring.push(&vec![7; CAPACITY]);
        assert_eq!(ring.read(1, 3), Piece::Lost(4));
        assert_eq!(ring.read(4, 2), Piece::Bytes(vec![7, 7]));
        ring.push(&vec![8; CAPACITY * 3]);
        assert_eq!(ring.end(), 4 + 4 * CAPACITY as u64);
        assert_eq!(ring.read(0, 1), Piece::Lost(4 + 3 * CAPACITY as u64));
    }
}
