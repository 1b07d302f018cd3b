//! Hostile bytes for what meets a workload or a service first: hello, request head, JSON, the body of a model request up to
//! its reservation, server-sent events, DNS.
//!
//! Seeds in `fuzz/corpus` are mutated at random: bits, bytes, cuts, repetitions, numbers at their bounds, and pieces of two
//! seeds. Bodies and events are made of whole values besides, so that most of them get past the parser. It runs on the stable compiler within the tests, for a second per target, or for `ASSAY_FUZZ_SECONDS`
//! (`make fuzz SECONDS=60`). It is not guided by coverage: it finds what shallow mutation finds. A panic, or an input that
//! takes longer than [`LONGEST`], fails the test and prints the input, which then belongs into the corpus.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by a panic, says how much it tried, and has no command line"
)]

#[path = "fuzz/bodies.rs"]
mod bodies;
#[path = "fuzz/events.rs"]
mod events;
#[path = "../src/fixture.rs"]
mod fixture;
#[path = "fuzz/floor.rs"]
mod floor;
#[path = "allowed/paths.rs"]
mod paths;
#[path = "fuzz/targets.rs"]
mod targets;
#[path = "fuzz/trees.rs"]
mod trees;
#[path = "allowed/values.rs"]
mod values;

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

/// Runs `target` on the seeds of `corpus` as they are, then on mutations of them until time is over.
fn fuzz(corpus: &str, target: impl FnMut(&[u8])) {
    let seeds = seeds(corpus);
    fuzz_with(corpus, &seeds, |random| random.mutated(&seeds), target);
}

/// Runs `target` on the seeds as they are, then on what `make` makes until time is over.
fn fuzz_with(
    corpus: &str,
    seeds: &[Vec<u8>],
    mut make: impl FnMut(&mut Random) -> Vec<u8>,
    mut target: impl FnMut(&[u8]),
) {
    let mut random = Random::new();
    let end = Instant::now() + seconds();
    let (mut done, mut next) = (0_u64, seeds.iter());
    while next.len() > 0 || Instant::now() < end {
        let input = match next.next() {
            Some(seed) => seed.clone(),
            None => make(&mut random),
        };
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(ended.is_ok(), "{corpus}: this input panics: {}", hex(&input));
        assert!(
            started.elapsed() < LONGEST,
            "{corpus}: this input takes too long: {}",
            hex(&input)
        );
        done += 1;
    }
    println!("{corpus}: {done} inputs");
}

fn seconds() -> Duration {
    let wanted = std::env::var("ASSAY_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(wanted.unwrap_or(1))
}

fn seeds(corpus: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(corpus);
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let seeds: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    seeds
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// xorshift64*: good enough to choose places, and fast.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        Self(u64::from_ne_bytes(seed) | 1)
    }

    /// Below `end`; 0 when there is nothing to choose.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(drawn).unwrap() % end.max(1)
    }

    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.mutate(&mut input, seeds);
        }
        input.truncate(MOST_BYTES);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len());
        let rest = input.len() - at.min(input.len());
        let length = self.below(rest.min(64)) + 1;
        match self.below(7) {
            0 if rest > 0 => input[at] ^= 1 << self.below(8),
            1 if rest > 0 => input[at] = BOUNDS[self.below(BOUNDS.len())],
            2 => input.truncate(at),
            3 => drop(input.drain(at..at + length.min(rest))),
            4 => {
                let part: Vec<u8> = input[at..at + length.min(rest)].repeat(self.below(200) + 1);
                input.splice(at..at, part);
            }
            5 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
        }
    }
}

const MOST_BYTES: usize = 128 * 1024;
const LONGEST: Duration = Duration::from_secs(5);
const BOUNDS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b'"'];
const WORDS: &[&[u8]] = &[
    b"\r\n\r\n",
    b"\r\ncontent-length: 99999999999999999999\r\n",
    b"\r\ntransfer-encoding: chunked\r\n",
    b"data: ",
    b"\xc0\x0c",
    b"\xff\xff",
    b"\x16\x03\x01",
    b"1e999",
    b"-0",
    b"\\ud800",
    b"{\"a\":",
    b"[[[[[[[[",
    b"\"usage\":{\"cost\":-1}",
];
