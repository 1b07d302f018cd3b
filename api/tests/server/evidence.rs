//! Events, output and artifacts.

use assay_core::{
    control::runner::Stream,
    digest::Digest,
    phase::Phase,
    wire::{
        people::{Artifact, Event, Output, Page},
        worker::{ArtifactUpload, Assignment, NewEvent, PostEvents, Progress, PutArtifact, output_key},
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
    assert_eq!(progress.output[&output_key(0, Phase::Agent, Stream::Stdout)], 5);
}

pub async fn put_output(stage: &Stage, held: &Assignment, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let path = format!(
        "/v1/attempts/{}/output?fence={}&step=0&phase=agent&stream=stdout&offset={offset}",
        held.attempt, held.fence
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
