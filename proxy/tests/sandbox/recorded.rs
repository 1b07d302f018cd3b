//! Calls that are recorded, and a later proxy that answers from the recording.

use assay_core::{
    control::proxy::{Loaded, ProxyAssignment},
    digest::Digest,
    money::PicoUsd,
    policy::Recorded,
    recording::{self, Extent, Source},
    upstream::Secret,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    chat,
    model::Script,
    world::{Answer, MODEL_HOST, World, eventually},
};

async fn recording(script: Script) -> World {
    World::with(script, |assignment| assignment.record = Recorded::Models).await
}

async fn ask(world: &World, fields: &Value) -> Answer {
    world
        .plain_model()
        .await
        .post("/v1/chat/completions", &[], &chat(fields))
        .await
}

/// The recording once it has so many lines.
async fn text(world: &World, lines: usize) -> String {
    let read = async || world.control().signed_get("/v1/recording?from=0").await.text();
    eventually(async || read().await.lines().count() >= lines).await;
    read().await
}

/// A proxy that answers from a recording; its service would be somewhere else.
async fn replaying(recorded: &str, change: impl FnOnce(&mut ProxyAssignment)) -> World {
    let source = Source {
        digest: Digest::of(recorded),
        size_bytes: recorded.len() as u64,
    };
    let world = World::with(Script::answer(1, 1), |assignment| {
        assignment.replay = Some(source);
        change(assignment);
    })
    .await;
    let early = ask(&world, &json!({})).await;
    assert_eq!(early.json()["error"]["code"], "replay_not_loaded");
    let (mut from, mut ready) = (0, false);
    for piece in recorded.as_bytes().chunks(60_000) {
        let path = format!("/v1/replay?from={from}");
        let answer = world.control().signed_bytes("POST", &path, piece).await;
        let loaded: Loaded = serde_json::from_slice(&answer.body).unwrap();
        (from, ready) = (loaded.bytes, loaded.ready);
    }
    assert!(ready);
    world
}

#[tokio::test]
async fn calls_are_recorded_as_they_went_out_and_came_back() {
    let world = recording(Script::answer(100, 10)).await;
    let whole = ask(&world, &json!({"max_tokens": 50})).await;
    let streamed = ask(&world, &json!({"stream": true})).await;
    let text = text(&world, 2).await;
    assert!(!text.contains("sk-real"));
    let calls = recording::calls(text.as_bytes());
    assert_eq!(calls.len(), 2);
    assert_eq!(
        (&calls[0].answer, &calls[1].answer),
        (&whole.text(), &streamed.text())
    );
    assert!(calls[1].content_type.starts_with("text/event-stream"));
    let sent: Value = serde_json::from_str(calls[0].request.get()).unwrap();
    assert_eq!(sent, world.model.requests()[0].body);
    assert_eq!(
        (calls[0].seq, calls[0].extent, calls[0].status),
        (1, Extent::Whole, 200)
    );
    assert_eq!((calls[0].input_tokens, calls[0].output_tokens), (100, 10));
    assert_eq!(calls[0].cost.to_string(), "0.00012");
}

#[tokio::test]
async fn without_consent_nothing_is_recorded() {
    let world = World::start(Script::answer(1, 1)).await;
    ask(&world, &json!({})).await;
    world.settled_ledger().await;
    let answer = world.control().signed_get("/v1/recording?from=0").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn no_recording_repeats_the_credential() {
    let world = recording(Script::leak()).await;
    ask(&world, &json!({})).await;
    let leaked = text(&world, 1).await;
    assert!(
        !leaked.contains("sk-real") && leaked.contains("*******"),
        "{leaked}"
    );
    let world = recording(Script::echo(400)).await;
    ask(&world, &json!({})).await;
    let echoed = text(&world, 1).await;
    assert!(
        !echoed.contains("sk-real") && echoed.contains("upstream_error"),
        "{echoed}"
    );
}

#[tokio::test]
async fn a_replay_answers_the_same_in_order_dials_nobody_and_costs_nothing() {
    let first = recording(Script::answer(100, 10)).await;
    let (one, two) = (json!({"max_tokens": 50}), json!({"stream": true}));
    let mut answers = Vec::new();
    for fields in [&one, &two, &one] {
        answers.push(ask(&first, fields).await.text());
    }
    let recorded = text(&first, 3).await;
    let world = replaying(&recorded, |_| {}).await;
    for (fields, answer) in [&one, &two, &one].into_iter().zip(&answers) {
        let replayed = ask(&world, fields).await;
        assert_eq!((replayed.status, &replayed.text()), (200, answer));
    }
    // It was asked twice, and is answered twice.
    for fields in [&one, &json!({"max_tokens": 51})] {
        let refused = ask(&world, fields).await;
        assert_eq!(refused.status, 403);
        assert_eq!(refused.json()["error"]["code"], "replay_unknown_request");
    }
    assert_eq!((world.model.requests().len(), world.model.connections()), (0, 0));
    let ledger = world.settled_ledger().await;
    assert_eq!(
        (ledger.cost_max(), ledger.requests, ledger.answers),
        (PicoUsd::ZERO, 6, 3)
    );
    assert_eq!((ledger.input_tokens, ledger.output_tokens), (300, 30));
    let reasons: Vec<String> = world.audit().await.into_iter().map(|line| line.reason).collect();
    let count = |reason: &str| reasons.iter().filter(|told| *told == reason).count();
    assert_eq!(
        (
            count("replayed"),
            count("replay_unknown_request"),
            count("forwarded")
        ),
        (3, 2, 0)
    );
}

#[tokio::test]
async fn a_replay_answers_on_opened_hosts_too_and_repeats_what_was_cut_off() {
    let first = recording(Script::cut()).await;
    let streaming = chat(&json!({"stream": true}));
    let mut connection = first.open_tls(MODEL_HOST).await.unwrap();
    let cut = connection.post("/api/v1/chat/completions", &[], &streaming).await;
    let recorded = text(&first, 1).await;
    assert_eq!(recording::calls(recorded.as_bytes())[0].extent, Extent::Cut);
    let world = replaying(&recorded, |_| {}).await;
    let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
    let again = connection.post("/api/v1/chat/completions", &[], &streaming).await;
    assert_eq!(again.text(), cut.text());
    assert!(world.settled_ledger().await.was_provider_down());
}

#[tokio::test]
async fn another_recording_than_the_assignment_names_is_not_taken() {
    let source = Source {
        digest: Digest::of("right"),
        size_bytes: 5,
    };
    let world = World::with(Script::answer(1, 1), |assignment| {
        assignment.replay = Some(source);
    })
    .await;
    let control = world.control();
    assert_eq!(
        control
            .signed_bytes("POST", "/v1/replay?from=1", b"x")
            .await
            .status,
        409
    );
    assert_eq!(
        control
            .signed_bytes("POST", "/v1/replay?from=0", b"longer")
            .await
            .status,
        409
    );
    assert_eq!(
        control
            .signed_bytes("POST", "/v1/replay?from=0", b"wrong")
            .await
            .status,
        409
    );
    let refused = ask(&world, &json!({})).await;
    assert_eq!(refused.json()["error"]["code"], "replay_not_loaded");
}

/// The service repeats the credential in its answer and in a header of it.
#[tokio::test]
async fn i5_no_output_holds_the_credential_in_any_form() {
    let credential = "sk-real-0123456789/abc+def";
    let world = World::with(Script::leak(), |assignment| {
        assignment.record = Recorded::Models;
        assignment.upstreams[0].credential = Secret::new(credential.to_owned());
    })
    .await;
    let mut outputs = vec![ask(&world, &json!({})).await.text()];
    outputs.push(ask(&world, &json!({"stream": true})).await.text());
    outputs.push(text(&world, 2).await);
    assert!(outputs.iter().all(|output| output.contains("*******")));
    let control = world.control();
    for path in ["/v1/audit?from=0", "/v1/log?from=0", "/v1/ledger", "/v1/metrics"] {
        outputs.push(control.signed_get(path).await.text());
    }
    for path in ["/healthz", "/trust", "/v1/ledger"] {
        outputs.push(control.get(path).await.text());
    }
    outputs.extend(world.state_files());
    let escaped = "sk-real-0123456789%2Fabc%2Bdef".to_owned();
    let mut forms = vec![credential.to_owned(), escaped.clone(), escaped.to_lowercase()];
    for skipped in 0..3 {
        let text = format!("{}{credential}", "x".repeat(skipped));
        // Without what depends on the neighbours.
        let whole = STANDARD.encode(&text[..text.len() / 3 * 3]).split_off(4);
        forms.extend([whole.replace('+', "-").replace('/', "_"), whole]);
    }
    for output in &outputs {
        for form in &forms {
            assert!(!output.contains(form), "{form} is in {output}");
        }
    }
}
