//! The proxy as a whole, in process, between a workload that the tests play and a scripted model service over TLS.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "sandbox/apis.rs"]
mod apis;
#[path = "sandbox/bounds.rs"]
mod bounds;
#[path = "sandbox/clocks.rs"]
mod clocks;
#[path = "sandbox/control.rs"]
mod control;
#[path = "sandbox/hostile.rs"]
mod hostile;
#[path = "sandbox/model.rs"]
mod model;
#[path = "sandbox/naive.rs"]
mod naive;
#[path = "sandbox/recorded.rs"]
mod recorded;
#[path = "sandbox/secrets.rs"]
mod secrets;
#[path = "sandbox/service.rs"]
mod service;
#[path = "sandbox/shapes.rs"]
mod shapes;
#[path = "sandbox/ways_out.rs"]
mod ways_out;
#[path = "sandbox/world.rs"]
mod world;

use std::sync::Arc;

use assay_core::{
    control::proxy::{AuditLine, Decision, Switch, Switched, WorkloadUsage},
    money::PicoUsd,
    phase::EgressPhase,
};
use serde_json::{Value, json};

use crate::{
    model::Script,
    ways_out::bodies::chat,
    world::{MODEL_HOST, World, eventually},
};

#[tokio::test]
async fn an_allowed_call_is_forwarded_with_our_credential_and_a_clamped_body() {
    let world = World::start(Script::answer(100, 10)).await;
    let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
    let body = chat(&json!({"max_tokens": 50_000, "user": "me"}));
    let answer = connection
        .post(
            "/api/v1/chat/completions",
            &[("authorization", "Bearer placeholder")],
            &body,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "scripted");
    let seen = world.model.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), Some("Bearer sk-real"));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    assert_eq!(seen[0].body["max_tokens"], 4_000);
    assert_eq!(seen[0].body["provider"]["data_collection"], "deny");
    assert_ne!(seen[0].body["user"], "me");
    // A second request on the same connection.
    assert_eq!(
        connection
            .post("/api/v1/chat/completions", &[], &chat(&json!({})))
            .await
            .status,
        200
    );
    let ledger = world.ledger().await;
    assert_eq!((ledger.requests, ledger.reserved), (2, PicoUsd::ZERO));
    // 100 in, 10 out: 0.0001 + 0.00002, twice.
    assert_eq!(ledger.settled.to_string(), "0.00024");
    assert_eq!((ledger.input_tokens, ledger.output_tokens), (200, 20));
}

#[tokio::test]
async fn a_stream_is_passed_on_and_its_usage_settled() {
    let world = World::start(Script::answer(100, 10)).await;
    let mut connection = world.plain_model().await;
    let answer = connection
        .post("/v1/chat/completions", &[], &chat(&json!({"stream": true})))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!(world.settled_ledger().await.settled.to_string(), "0.00012");
    let usage: WorkloadUsage = serde_json::from_value(connection.get("/usage").await.json()).unwrap();
    assert_eq!(usage.settled_usd.to_string(), "0.00012");
    assert_eq!(
        (usage.remaining_usd + usage.settled_usd).to_string(),
        usage.budget_usd.to_string()
    );
    let models = connection.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "test/large");
}

#[tokio::test]
async fn a_workload_that_goes_away_still_pays() {
    let world = World::start(Script::slow(100, 10)).await;
    let mut connection = world.plain_model().await;
    connection
        .send(
            "POST",
            "/v1/chat/completions",
            &[],
            &chat(&json!({"stream": true})),
        )
        .await;
    eventually(async || world.model.requests().len() == 1).await;
    drop(connection);
    world.model.go_on();
    assert_eq!(world.settled_ledger().await.settled.to_string(), "0.00012");
}

/// Method, path, headers, body; status, code.
type Refused = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Value,
    u16,
    &'static str,
);

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn refusals_never_reach_the_service() {
    let world = World::start(Script::answer(1, 1)).await;
    let path = "/api/v1/chat/completions";
    let wrong_model = chat(&json!({"model": "other/model"}));
    let cases: [Refused; 9] = [
        ("POST", path, &[], wrong_model, 403, "model_not_allowed"),
        (
            "POST",
            path,
            &[],
            chat(&json!({"plugins": []})),
            403,
            "field_not_allowed",
        ),
        (
            "POST",
            path,
            &[("content-encoding", "gzip")],
            chat(&json!({})),
            403,
            "content_encoding_not_allowed",
        ),
        (
            "POST",
            path,
            &[("content-type", "text/plain")],
            chat(&json!({})),
            403,
            "content_type_not_allowed",
        ),
        (
            "POST",
            path,
            &[("host", "evil.example")],
            chat(&json!({})),
            421,
            "host_mismatch",
        ),
        (
            "POST",
            path,
            &[("upgrade", "websocket")],
            chat(&json!({})),
            403,
            "upgrade_not_allowed",
        ),
        (
            "POST",
            "/api/v1/chat/completions?x=1",
            &[],
            chat(&json!({})),
            403,
            "query_not_allowed",
        ),
        (
            "POST",
            "/api/v1//chat/completions",
            &[],
            chat(&json!({})),
            403,
            "path_not_allowed",
        ),
        (
            "GET",
            "/api/v1/generation",
            &[],
            Value::Null,
            403,
            "path_not_allowed",
        ),
    ];
    let count = u64::try_from(cases.len()).unwrap();
    for (method, path, headers, body, status, code) in cases {
        let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
        connection.send(method, path, headers, &body).await;
        let answer = connection.receive().await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (status, Some(code))
        );
        assert_eq!(answer.json()["error"]["retryable"], false);
    }
    assert_eq!(world.model.connections(), 0);
    let ledger = world.ledger().await;
    assert_eq!((ledger.refused_requests, ledger.requests), (count, 0));
}

#[tokio::test]
async fn hosts_that_are_not_allowed_are_closed_and_told_in_the_audit() {
    let world = World::start(Script::answer(1, 1)).await;
    assert!(world.open_tls("evil.example").await.is_err());
    assert!(world.raw_tls_port(b"SSH-2.0-x\r\n").await.is_empty());
    assert!(world.other_port().await);
    let answer = world.http80("evil.example").await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (403, Some("host_not_allowed"))
    );
    let answer = world.http80(MODEL_HOST).await;
    assert_eq!(answer.json()["error"]["code"], "model_host_closed");
    let denied = |kind: &'static str, reason: &'static str| {
        move |line: &AuditLine| line.kind == kind && line.reason == reason && line.decision == Decision::Deny
    };
    let lines = world.audit().await;
    for (kind, reason) in [
        ("tls", "host_not_allowed"),
        ("tls", "not_tls"),
        ("tcp", "port_not_allowed"),
        ("http", "host_not_allowed"),
        ("http", "model_host_closed"),
    ] {
        assert!(
            lines.iter().any(denied(kind, reason)),
            "{kind} {reason}: {lines:?}"
        );
    }
    assert_eq!(world.model.connections(), 0);
}

#[tokio::test]
async fn calls_at_the_same_time_never_overspend() {
    // Each call costs 0.0005; the purse holds 0.006.
    let world = World::with(Script::slow(100, 200), |assignment| {
        assignment.purses.get_mut(&EgressPhase::Agent).unwrap().budget = "0.006".parse().unwrap();
    })
    .await;
    let world = Arc::new(world);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let body = chat(&json!({"max_tokens": 4_000}));
                let mut connection = world.plain_model().await;
                connection.post("/v1/chat/completions", &[], &body).await
            })
        })
        .collect();
    // The first hold all that there is; the others wait for their end.
    eventually(async || world.model.requests().len() >= 2).await;
    let ledger = world.ledger().await;
    assert!(
        ledger.cost_max() <= ledger.budget && ledger.requests < 10,
        "{ledger:?}"
    );
    world.model.go_on();
    let mut passed = 0;
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status {
            200 => passed += 1,
            403 => assert_eq!(answer.json()["error"]["code"], "budget_exhausted"),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let ledger = world.settled_ledger().await;
    // The last ones find less than what a call must hold to be of use.
    assert!((8..=11).contains(&passed), "{passed}");
    assert_eq!((ledger.requests, ledger.refused_requests), (passed, 20 - passed));
    assert_eq!(u64::try_from(world.model.requests().len()).unwrap(), passed);
    assert!(ledger.settled <= ledger.budget, "{ledger:?}");
}

#[tokio::test]
async fn a_switch_of_the_phase_cuts_what_is_open() {
    let world = World::start(Script::answer(1, 1)).await;
    let mut opened = world.open_tls(MODEL_HOST).await.unwrap();
    assert_eq!(
        opened
            .post("/api/v1/chat/completions", &[], &chat(&json!({})))
            .await
            .status,
        200
    );
    let mut plain = world.plain_model().await;
    assert_eq!(plain.get("/usage").await.status, 200);
    let switch = Switch {
        generation: 3,
        phase: EgressPhase::Verify,
        step: 0,
    };
    let answer = world.control().signed("POST", "/v1/phase", &switch).await;
    let switched: Switched = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        switched,
        Switched {
            generation: 3,
            cut: 2
        }
    );
    assert!(opened.is_closed().await && plain.is_closed().await);
    assert_eq!(
        world.control().signed("POST", "/v1/phase", &switch).await.status,
        409
    );
    assert!(world.open_tls(MODEL_HOST).await.is_err());
    let answer = world
        .plain_model()
        .await
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    assert_eq!(answer.json()["error"]["code"], "no_models");
}

#[tokio::test]
async fn an_allowed_host_is_passed_through_unopened_and_cut_with_its_phase() {
    let world = World::in_phase(Script::answer(1, 1), EgressPhase::Setup).await;
    // The scripted service answers with its own certificate here: nothing is opened.
    let mut connection = world.splice_tls().await.unwrap();
    let answer = connection.get("/anything").await;
    assert_eq!(answer.status, 404);
    let switch = Switch {
        generation: 1,
        phase: EgressPhase::Agent,
        step: 0,
    };
    let answer = world.control().signed("POST", "/v1/phase", &switch).await;
    let switched: Switched = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(switched.cut, 1);
    assert!(connection.is_closed().await);
    eventually(async || {
        world
            .audit()
            .await
            .iter()
            .any(|line| line.reason == "cut_by_phase")
    })
    .await;
}

#[tokio::test]
async fn names_are_answered_by_policy_over_udp_and_tcp() {
    let world = World::start(Script::answer(1, 1)).await;
    assert_eq!(world.look_up(MODEL_HOST).await, Some(true));
    assert_eq!(world.look_up("secret.evil.example").await, None);
    assert_eq!(world.look_up_over_tcp(MODEL_HOST).await, Some(true));
}
