//! Events, output and artifacts.

use assay_core::{
    control::runner::Stream,
    digest::Digest,
    ledger::{
        Bill, Book, Entry, Fault, Grant,
        log::{Chain, Line},
    },
    money::PicoUsd,
    phase::{EgressPhase, Phase},
    wire::{
        channel::{Channel, Record, Sidecar},
        people::{Artifact, Event, Output, Page},
        worker::{Accounts, ArtifactUpload, Assignment, NewEvent, PostEvents, Progress, PutArtifact},
    },
};
use assay_runtime::client::{self, Error};
use http::Method;

use crate::{
    stage::{Stage, code, eventually, stage},
    work::lease,
};

pub async fn held(stage: &Stage) -> Assignment {
    stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    stage.claim(worker, 1).await.pop().unwrap()
}

fn event(seq: u64) -> NewEvent {
    NewEvent {
        seq,
        at: jiff::Timestamp::UNIX_EPOCH,
        step: 0,
        phase: Phase::Agent,
        kind: "note".to_owned(),
        data: serde_json::json!({ "seq": seq }),
    }
}

pub async fn post(stage: &Stage, held: &Assignment, seqs: impl Iterator<Item = u64>) -> Result<(), Error> {
    let progress = Progress {
        phase: Some(Phase::Agent),
        generation: 3,
        ..Progress::default()
    };
    let body = PostEvents {
        fence: held.fence,
        events: seqs.map(event).collect(),
        progress,
    };
    let path = format!("/v1/attempts/{}/events", held.attempt);
    stage
        .call_as(&stage.worker_key, Method::POST, &path, Some(&body))
        .await
}

pub async fn events(stage: &Stage, held: &Assignment, query: &str) -> Page<Event> {
    stage
        .get(&format!("/v1/attempts/{}/events?{query}", held.attempt))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_no_gaps_and_cursors_that_grow() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    post(&stage, &held, 1..=3).await.unwrap();
    post(&stage, &held, 2..=5).await.unwrap();
    assert_eq!(code(post(&stage, &held, 7..=8).await), "event_gap");
    eventually("five events are published", || async {
        events(&stage, &held, "").await.items.len() == 5
    })
    .await;
    let first = events(&stage, &held, "limit=2").await;
    let after = first.next.clone().unwrap();
    let rest = events(&stage, &held, &format!("after={after}")).await;
    let all: Vec<_> = first.items.iter().chain(&rest.items).collect();
    let seqs: Vec<_> = all.iter().map(|event| event.event.seq).collect();
    assert_eq!((seqs, rest.next), (vec![1, 2, 3, 4, 5], None));
    assert!(all.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopter_learns_how_far_the_attempt_is() {
    let Some(stage) = stage().await else { return };
    stage.submit(&stage.submission(1).await).await;
    let (first, second) = (stage.register("a").await, stage.register("b").await);
    let held = stage.claim(first, 1).await.pop().unwrap();
    post(&stage, &held, 1..=4).await.unwrap();
    put_output(&stage, &held, 0, b"hello").await.unwrap();
    stage.hand_off(first, &[lease(&held)]).await;
    let progress = stage.claim(second, 1).await.pop().unwrap().adopted.unwrap();
    assert_eq!(
        (progress.seq, progress.generation, progress.phase),
        (4, 3, Some(Phase::Agent))
    );
    assert_eq!(
        progress.output[&Channel::Printed(Phase::Agent, Stream::Stdout).key(0)],
        5
    );
}

pub async fn put_output(stage: &Stage, held: &Assignment, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let channel = Channel::Printed(Phase::Agent, Stream::Stdout);
    put_stream(stage, held, channel, offset, bytes).await
}

async fn put_stream(
    stage: &Stage,
    held: &Assignment,
    channel: Channel,
    offset: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    let path = format!(
        "/v1/attempts/{}/output?fence={}&step=0&phase={}&stream={}&offset={offset}",
        held.attempt,
        held.fence,
        channel.phase(),
        channel.stream()
    );
    let chunk = Some(("application/octet-stream", bytes.to_vec()));
    let key = Some(stage.worker_key.as_str());
    let (status, body) = stage.send(stage.at(0, &path), Method::PUT, key, chunk).await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(client::problem(status, &body))
    }
}

async fn read_output(stage: &Stage, held: &Assignment, offset: u64) -> (u64, Vec<u8>, u64) {
    let url = format!(
        "{}/v1/attempts/{}/output?phase=agent&stream=stdout&offset={offset}",
        stage.replicas[1].0, held.attempt
    );
    let request = http::Request::get(&url)
        .header("authorization", format!("Bearer {}", stage.validator))
        .body(client::full(""))
        .unwrap();
    let response = stage.client.send(request).await.unwrap();
    let number = |name: &str| response.headers()[name].to_str().unwrap().parse::<u64>().unwrap();
    let (begin, next) = (number("assay-offset"), number("assay-next-offset"));
    (
        begin,
        stage.client.read(response, &url).await.unwrap().to_vec(),
        next,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_back_whole_small_and_large() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let large = vec![7u8; 100_000];
    put_output(&stage, &held, 0, b"hello ").await.unwrap();
    put_output(&stage, &held, 0, b"hello ").await.unwrap();
    put_output(&stage, &held, 3, b"lo world").await.unwrap();
    put_output(&stage, &held, 11, &large).await.unwrap();
    let whole = [b"hello world".as_slice(), &large].concat();
    assert_eq!(read_output(&stage, &held, 0).await, (0, whole.clone(), 100_011));
    assert_eq!(
        read_output(&stage, &held, 50).await,
        (50, whole[50..].to_vec(), 100_011)
    );
    assert_eq!(
        read_output(&stage, &held, 100_011).await,
        (100_011, Vec::new(), 100_011)
    );
    let path = format!("/v1/attempts/{}/outputs", held.attempt);
    let streams: Page<Output> = stage.get(&path).await.unwrap();
    assert_eq!(streams.items[0].bytes, 100_011);
    assert_eq!(
        code(put_output(&stage, &held, 100_011, &vec![0; 300_000]).await),
        "body_too_large"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_middle_is_told_by_the_offset() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    put_output(&stage, &held, 0, b"head").await.unwrap();
    put_output(&stage, &held, 1000, b"tail").await.unwrap();
    assert_eq!(read_output(&stage, &held, 0).await, (0, b"head".to_vec(), 4));
    assert_eq!(
        read_output(&stage, &held, 4).await,
        (1000, b"tail".to_vec(), 1004)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_go_up_by_presigned_urls_that_take_their_bytes_alone() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let bytes = b"diff --git a/x b/x\n".to_vec();
    let new = PutArtifact {
        fence: held.fence,
        name: "patch.diff".to_owned(),
        media_type: "text/x-diff".to_owned(),
        size_bytes: u64::try_from(bytes.len()).unwrap(),
        digest: Digest::of(&bytes),
    };
    let path = format!("/v1/attempts/{}/artifacts", held.attempt);
    let answer: ArtifactUpload = stage
        .call_as(&stage.worker_key, Method::POST, &path, Some(&new))
        .await
        .unwrap();
    let other = bytes.to_ascii_uppercase();
    for said in [Some(new.digest), Some(Digest::of(&other)), None] {
        let status = stage.try_put(&answer.url, other.clone(), said).await;
        assert!(
            status.is_client_error(),
            "other bytes, said to be {said:?}: {status}"
        );
    }
    stage.put_url(&answer.url, bytes.clone()).await;
    let listed: Page<Artifact> = stage.get(&path).await.unwrap();
    assert_eq!(listed.items[0].name, "patch.diff");
    assert_eq!(stage.get_url(&listed.items[0].url).await, bytes);
    assert_eq!(
        stage.get_url(&held.task.url).await.len(),
        usize::try_from(held.task.size_bytes).unwrap()
    );
}

/// A write-ahead log: the agent's purse has this bill and a request without an end of 20, the verifier's a bill of 5.
fn proxy_log(bill: u64) -> Vec<u8> {
    let reserve = |id, phase, amount| Entry::Reserve {
        id,
        phase,
        model: "a/model".parse().unwrap(),
        amount: PicoUsd::from_pico(amount),
        tokens: 10,
    };
    let settle = |id, cost| Entry::Settle {
        id,
        bill: Bill {
            cost: PicoUsd::from_pico(cost),
            output_tokens: 3,
            ..Bill::default()
        },
        fault: Fault::Nobody,
    };
    let phases = [EgressPhase::Agent, EgressPhase::Verify].map(|phase| (phase, Grant::default()));
    let entries = [
        Book::open(phases.into(), "test".to_owned()).1,
        reserve(1, EgressPhase::Agent, 80),
        settle(1, bill),
        reserve(2, EgressPhase::Agent, 20),
        reserve(3, EgressPhase::Verify, 9),
        settle(3, 5),
    ];
    let (mut chain, mut log) = (Chain::default(), String::new());
    for entry in entries {
        let time = String::new();
        let (text, next) = chain.seal(&Line { time, entry }).unwrap();
        log += &text;
        chain = next;
    }
    log.into_bytes()
}

/// Stores a write-ahead log that shows so many pico-USD as settled for the agent.
pub async fn put_settled(stage: &Stage, held: &Assignment, pico: u64) {
    let channel = Channel::Proxy(Sidecar::Main, Record::Ledger);
    put_stream(stage, held, channel, 0, &proxy_log(pico))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streamed_log_tells_the_account_of_a_sandbox_that_cannot_be_asked() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let log = proxy_log(70);
    let channel = Channel::Proxy(Sidecar::Main, Record::Ledger);
    // In two pieces, one of them in the middle of a line, the second one told twice as after an adoption.
    put_stream(&stage, &held, channel, 0, &log[..100]).await.unwrap();
    put_stream(&stage, &held, channel, 50, &log[50..]).await.unwrap();
    put_stream(&stage, &held, channel, 50, &log[50..]).await.unwrap();
    let path = |fence: u64| format!("/v1/attempts/{}/accounts?fence={fence}", held.attempt);
    let ask = async |fence| -> Result<Accounts, Error> {
        stage
            .call_as(&stage.worker_key, Method::GET, &path(fence), None::<&()>)
            .await
    };
    let accounts = ask(held.fence.0).await.unwrap();
    let money =
        |ledger: &assay_core::control::proxy::Ledger| (ledger.settled.pico(), ledger.unresolved.pico());
    assert_eq!(
        (money(&accounts.agent), money(&accounts.verifier)),
        ((70, 20), (5, 0))
    );
    assert_eq!((accounts.agent.requests, accounts.agent.output_tokens), (2, 3));
    assert_eq!(code(ask(held.fence.0 + 1).await), "stale_fence");
    let list = format!("/v1/attempts/{}/outputs", held.attempt);
    let streams: Page<Output> = stage.get(&list).await.unwrap();
    assert_eq!(
        (streams.items[0].channel, streams.items[0].bytes),
        (channel, log.len() as u64)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_writes_is_refused_by_name() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let path = format!("/v1/attempts/{}/output?phase=proxy&stream=stdout", held.attempt);
    assert_eq!(
        code(stage.get::<serde_json::Value>(&path).await),
        "invalid_request"
    );
}
