//! What is fed: each target with what must hold for every input.

use std::{fs::File, sync::Arc};

use assay_core::{clock::SystemClock, egress::HostName};
use hickory_proto::op::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
};

use assay_proxy::{
    audit::{Segments, Sizes},
    dns::{self, Families},
    hello,
    model::{
        api::{self, Entrance},
        json::Json,
    },
    serving::Serving,
    state::Files,
};

use crate::{fixture, fuzz};

#[test]
fn no_hello_ends_the_proxy() {
    let runtime = runtime();
    fuzz("hello", |bytes| {
        if let Ok(read) = runtime.block_on(hello::read(&mut &*bytes)) {
            assert!(read.bytes.len() <= bytes.len() && read.name.as_str().contains('.'));
        }
    });
}

#[test]
fn no_request_ends_the_proxy_and_none_is_forwarded() {
    let runtime = runtime();
    let serving = runtime.block_on(async { serving() });
    fuzz("request", |bytes| {
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(256 * 1024);
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let flow = Arc::new(serving.phases.flow());
            let upstream = serving.policy.upstreams().first().map(Arc::clone).unwrap();
            api::serve(Arc::clone(&serving), flow, Entrance::Opened(upstream), server).await;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
        });
    });
    // The purse of the fixture allows no model of these seeds.
    assert_eq!(serving.ledger().requests, 0);
}

#[test]
fn json_that_is_read_writes_back_the_same() {
    fuzz("json", |bytes| {
        if let Ok(read) = Json::parse(bytes) {
            let written = read.to_bytes();
            assert_eq!(Json::parse(&written).unwrap().to_bytes(), written);
        }
    });
}

#[test]
fn no_question_ends_the_proxy_and_every_answer_can_be_read() {
    let families = Families { v4: true, v6: true };
    let allows = |host: &HostName| {
        if host.as_str() == "pypi.org" {
            Ok(())
        } else {
            Err("host_not_allowed")
        }
    };
    fuzz("dns", |bytes| {
        if let Some(answered) = dns::answer(bytes, families, allows) {
            let answer = Message::from_vec(&answered.bytes).unwrap();
            assert!(answer.answers.len() <= 1);
            assert!(answered.verdict.is_ok() || answer.answers.is_empty());
        }
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn serving() -> Arc<Serving> {
    let nowhere = || File::options().write(true).open("/dev/null").unwrap();
    let families = Families { v4: true, v6: false };
    let clock: Arc<dyn assay_core::clock::Clock> = Arc::new(SystemClock);
    // Its folder goes at once: what is written is read by nobody.
    let folder = tempfile::tempdir().unwrap();
    let files = Files {
        log: nowhere(),
        audit: Segments::create(folder.path(), Sizes::default()).unwrap(),
        recording: None,
        replay: None,
    };
    Arc::new(Serving::new(&fixture::assignment(), files, families, &clock, "boot".to_owned()).unwrap())
}
