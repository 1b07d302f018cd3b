//! Readers that wait are woken on any replica.

use std::time::{Duration, Instant};

use assay_core::{cause::Cause, wire::worker::Assignment};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::{
    evidence::{held, post, put_output},
    stage::{Stage, stage},
};

/// Far below the time after which a reader that hears nothing looks by itself.
const SOON: Duration = Duration::from_secs(4);

/// A reader on the second replica, and how long it waited.
async fn wait(stage: &Stage, held: &Assignment, part: &str) -> (Vec<u8>, Duration) {
    let path = format!("/v1/attempts/{}/{part}&wait_ms=20000", held.attempt);
    let began = Instant::now();
    let key = Some(stage.validator.as_str());
    let answered = stage.send(stage.at(1, &path), Method::GET, key, None).await;
    let (status, body) = answered.unwrap();
    assert_eq!(status, StatusCode::OK);
    (body.to_vec(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_on_another_replica_is_woken_by_output() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let part = "output?phase=agent&stream=stdout&offset=0";
    let ((bytes, waited), put) =
        tokio::join!(wait(&stage, &held, part), put_output(&stage, &held, 0, b"new"));
    put.unwrap();
    assert_eq!(bytes, b"new");
    assert!(waited < SOON, "{waited:?}");
    let part = "outputs?beyond=3";
    let ((bytes, waited), put) = tokio::join!(wait(&stage, &held, part), put_output(&stage, &held, 3, b"er"));
    put.unwrap();
    let streams: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(streams["items"][0]["bytes"], 5);
    assert!(waited < SOON, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_on_another_replica_is_woken_by_events_and_by_the_end() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let ((bytes, waited), posted) =
        tokio::join!(wait(&stage, &held, "events?after=0"), post(&stage, &held, 1..=1));
    posted.unwrap();
    let events: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(events["items"][0]["seq"], 1);
    assert!(waited < SOON, "{waited:?}");
    let part = "output?phase=agent&stream=stdout&offset=0";
    let ((bytes, waited), ()) =
        tokio::join!(wait(&stage, &held, part), stage.finish(&held, Cause::Completed));
    assert!(bytes.is_empty());
    assert!(waited < SOON, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn news_reach_a_reader_within_milliseconds() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let mut waits = Vec::new();
    for offset in 0..40 {
        let part = format!("output?phase=agent&stream=stdout&offset={offset}");
        let stored = async {
            put_output(&stage, &held, offset, b"x").await.unwrap();
            Instant::now()
        };
        let read = async {
            assert_eq!(wait(&stage, &held, &part).await.0, b"x");
            Instant::now()
        };
        let (stored, read) = tokio::join!(stored, read);
        waits.push(read.saturating_duration_since(stored));
    }
    waits.sort_unstable();
    println!(
        "chunk stored -> reader on another replica has it: median {:?}, most {:?}",
        waits[20], waits[39]
    );
    assert!(waits[20] < SOON);
}
