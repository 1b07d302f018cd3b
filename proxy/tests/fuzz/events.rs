//! Streams of answers, for every API, with the usage shown and hidden, however they are cut.

use assay_core::price::ModelPrice;
use assay_proxy::model::{bound::Prices, json::Json, spec::Api, sse::Events, usage::Tally};

use crate::{Random, fixture, fuzz_with, seeds, trees};

#[test]
fn events_are_passed_on_whatever_they_are_and_tell_the_same_however_they_are_cut() {
    let files = seeds("sse");
    let events: Vec<Event> = files.iter().flat_map(|file| split(file)).collect();
    let trees: Vec<Json> = events.iter().filter_map(|event| event.data.clone()).collect();
    let small = fixture::assignment().prices[&"test/small".parse().unwrap()].clone();
    let uncut: Vec<Vec<u8>> = files.iter().map(|file| with_length(7, file)).collect();
    let make = |random: &mut Random| {
        let length = 1 + random.below(255);
        let stream: Vec<u8> = (0..=random.below(6))
            .flat_map(|_| made(events[random.below(events.len())].clone(), &trees, random))
            .collect();
        if random.below(4) > 0 {
            return with_length(length, &stream);
        }
        with_length(length, &random.mutated(&[stream]))
    };
    let mut billed = 0_u64;
    fuzz_with("sse", &uncut, make, |input| {
        let (length, bytes) = (usize::from(input[0]).max(1), &input[1..]);
        for api in Api::ALL {
            for hide in [false, true] {
                let whole = read(api, hide, &[bytes]);
                let chunks: Vec<&[u8]> = bytes.chunks(length).collect();
                assert_eq!(read(api, hide, &chunks), whole, "{api:?}");
                if bytes.len() < SHORT && Api::ALL[length % Api::ALL.len()] == api {
                    for at in 0..bytes.len() {
                        assert_eq!(
                            read(api, hide, &[&bytes[..at], &bytes[at..]]),
                            whole,
                            "{api:?} {at}"
                        );
                    }
                }
                check_passed(api, hide, bytes, &whole.0);
                billed += check_bill(&whole.1, &small);
            }
        }
    });
    println!("sse: {billed} bills");
    assert!(billed > 0, "no stream tells a bill");
}

/// What is passed on, and what was told.
fn read(api: Api, hide: bool, chunks: &[&[u8]]) -> (Vec<u8>, Tally) {
    let mut events = Events::new(Tally::new(api), hide);
    let mut passed: Vec<u8> = chunks.iter().flat_map(|chunk| events.push(chunk)).collect();
    passed.extend(events.finish());
    (passed, events.tally().clone())
}

/// Only an event with usage may be missing, and only where it is hidden and where the API has such an event.
fn check_passed(api: Api, hide: bool, bytes: &[u8], passed: &[u8]) {
    let tells_usage = memchr::memmem::find(bytes, b"\"usage\"").is_some() || bytes.contains(&b'\\');
    let has_bare_usage = !matches!(api, Api::Responses | Api::Messages);
    if hide && has_bare_usage && tells_usage {
        let mut rest = bytes.iter();
        assert!(passed.iter().all(|byte| rest.any(|other| other == byte)));
    } else {
        assert_eq!(passed, bytes);
    }
}

/// No bill is below what its tokens cost. Gives how many there are.
fn check_bill(tally: &Tally, price: &ModelPrice) -> u64 {
    let prices = Prices::of(&[price]).unwrap();
    let (cut, complete) = (tally.bill(false, &prices), tally.bill(true, &prices));
    assert!(cut.is_none() || cut == complete);
    let Some(bill) = complete else {
        return 0;
    };
    assert!(bill.cost >= price.output.times(bill.output_tokens), "{bill:?}");
    assert!(
        bill.output_tokens == 0 && bill.input_tokens == 0 || bill.cost >= price.cost(&bill),
        "{bill:?}"
    );
    1
}

/// One event: its lines before the data, and its data.
#[derive(Debug, Clone)]
struct Event {
    head: String,
    /// None where it is no JSON.
    data: Option<Json>,
    text: String,
}

fn split(file: &[u8]) -> Vec<Event> {
    let text = std::str::from_utf8(file).unwrap();
    let event = |text: &str| {
        let (head, data) = text.split_once("data: ").unwrap_or((text, ""));
        Event {
            head: head.to_owned(),
            data: Json::parse(data.as_bytes()).ok(),
            text: text.to_owned(),
        }
    };
    text.split("\n\n").map(event).collect()
}

fn made(mut event: Event, trees: &[Json], random: &mut Random) -> Vec<u8> {
    let line_end = ["\n", "\r\n", "\r"][random.below(3)];
    let mut text = match &mut event.data {
        Some(data) => {
            for _ in 0..random.below(3) {
                trees::mutate(data, trees, KEYS, random);
            }
            let data = String::from_utf8(data.to_bytes()).unwrap();
            format!("{}data: {data}", event.head)
        }
        None => event.text,
    };
    text.push_str("\n\n");
    text.replace('\n', line_end).into_bytes()
}

/// The length of the chunks stands before the stream, so that an input that is printed says all.
fn with_length(length: usize, stream: &[u8]) -> Vec<u8> {
    [&[u8::try_from(length).unwrap()], stream].concat()
}

/// Streams shorter than this are cut at every place.
const SHORT: usize = 120;

const KEYS: &[&str] = &[
    "usage",
    "cost",
    "cost_details",
    "is_byok",
    "upstream_inference_cost",
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "choices",
    "error",
    "type",
    "response",
    "message",
    "id",
    "model",
];
