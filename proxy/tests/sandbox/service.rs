//! A model service that fails, cuts off, repeats our credential: what is tried again, what it costs, what gets through.

use assay_core::{control::proxy::Switch, money::PicoUsd, phase::EgressPhase};
use serde_json::{Value, json};

use crate::{
    chat,
    model::Script,
    naive::NaiveBook,
    world::{World, eventually},
};

async fn call(world: &World, fields: &Value) -> crate::world::Answer {
    world
        .plain_model()
        .await
        .post("/v1/chat/completions", &[], &chat(fields))
        .await
}

#[tokio::test]
async fn b9_a_passing_error_is_tried_again_and_the_workload_sees_the_good_answer() {
    for status in [429, 500, 503, 529] {
        let world = World::start(Script::flaky(2, status)).await;
        let answer = call(&world, &json!({})).await;
        assert_eq!(answer.status, 200, "{status}: {}", answer.text());
        let ledger = world.settled_ledger().await;
        assert_eq!(ledger.settled.to_string(), "0.00012");
        assert_eq!((ledger.requests, ledger.answers), (1, 1));
        assert_eq!((ledger.provider_errors, ledger.provider_failures), (2, 0));
        assert_eq!(ledger.unresolved > PicoUsd::ZERO, status == 500, "{status}");
        assert!(!ledger.was_provider_down());
        let log = world.control().signed_get("/v1/log?from=0").await.text();
        assert_eq!(
            log.matches("\"entry\":\"reserve\"").count(),
            3,
            "each try is reserved for"
        );
    }
}

#[tokio::test]
async fn tries_end_and_their_last_error_is_passed_on() {
    for (status, tries, failures, is_billable) in [
        (429, 4, 1, false),
        (503, 4, 1, false),
        (529, 4, 1, false),
        (500, 4, 1, true),
        (502, 4, 1, true),
        (400, 1, 0, false),
        (401, 1, 1, false),
    ] {
        let world = World::start(Script::error(status)).await;
        let answer = call(&world, &json!({"max_tokens": 1_000})).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["error"]["message"], "scripted error");
        assert_eq!(world.model.requests().len(), tries);
        let ledger = world.ledger().await;
        assert_eq!(ledger.settled, PicoUsd::ZERO);
        // What failed after the request was sent may be billed, each time.
        let most: PicoUsd = if is_billable { "0.008" } else { "0" }.parse().unwrap();
        let is_held = ledger.unresolved >= most && (is_billable || ledger.unresolved == PicoUsd::ZERO);
        assert!(is_held, "{status}: {ledger:?}");
        assert_eq!(
            (ledger.requests, ledger.provider_failures),
            (1, failures),
            "{status}"
        );
        assert_eq!(ledger.was_provider_down(), failures > 0, "{status}");
    }
}

#[tokio::test]
async fn an_error_that_is_billed_is_asked_for_by_its_name() {
    for status in [500, 503] {
        let world = World::start(Script::billed_error(status)).await;
        let answer = call(&world, &json!({"max_tokens": 1_000})).await;
        assert_eq!(answer.status, status);
        let ledger = world.settled_ledger().await;
        assert_eq!((ledger.settled, ledger.reconciling), (PicoUsd::ZERO, 4));
        assert!(ledger.unresolved >= "0.008".parse().unwrap(), "{ledger:?}");
        world.model.go_on();
        eventually(async || world.ledger().await.reconciling == 0).await;
        let ledger = world.ledger().await;
        let sums = (ledger.settled.to_string(), ledger.unresolved);
        assert_eq!(sums, ("0.002".into(), PicoUsd::ZERO), "{status}");
    }
}

#[tokio::test]
async fn b10_a_flagged_prompt_is_nobodys_outage() {
    let world = World::start(Script::flagged()).await;
    // Who goes by the status is made to try the run again by whoever says what a provider does not like.
    let mut naive = NaiveBook::default();
    for _ in 0..3 {
        let answer = call(&world, &json!({})).await;
        assert_eq!(answer.status, 403);
        naive.take(&answer);
    }
    assert!(naive.ledger().was_provider_down());
    let ledger = world.ledger().await;
    assert_eq!((ledger.requests, ledger.provider_failures), (3, 0));
    assert!(!ledger.was_provider_down());
}

#[tokio::test]
async fn b10_a_service_that_hangs_up_on_a_huge_request_may_mean_its_size() {
    for (bytes, failures) in [(5 << 20, 0), (1 << 20, 1)] {
        let world = World::start(Script::hangup()).await;
        let turns = json!([{"role": "user", "content": "x".repeat(bytes)}]);
        let answer = call(&world, &json!({"messages": turns, "max_tokens": 300})).await;
        assert_eq!(answer.json()["error"]["code"], "upstream_broken");
        let ledger = world.settled_ledger().await;
        assert!(ledger.unresolved > PicoUsd::ZERO);
        assert_eq!(ledger.provider_failures, failures, "{bytes}");
    }
}

#[tokio::test]
async fn b10_a_service_that_hangs_up_is_tried_again_and_each_try_counts_as_perhaps_spent() {
    let world = World::start(Script::hangup()).await;
    let answer = call(&world, &json!({"max_tokens": 1_000})).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (502, &json!("upstream_broken"))
    );
    let ledger = world.settled_ledger().await;
    assert_eq!((world.model.requests().len(), ledger.provider_errors), (4, 4));
    assert!(
        ledger.unresolved >= "0.008".parse().unwrap(),
        "{}",
        ledger.unresolved
    );
    assert!(ledger.was_provider_down());
}

#[tokio::test]
async fn b10_a_service_that_cannot_be_reached_costs_nothing() {
    let world = World::with(Script::answer(1, 1), |assignment| {
        // Nobody listens on the discard port.
        assignment.upstreams[0].address = Some("127.0.0.1:9".parse().unwrap());
    })
    .await;
    let answer = call(&world, &json!({})).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (502, &json!("upstream_unreachable"))
    );
    let ledger = world.ledger().await;
    assert_eq!((ledger.cost_max(), ledger.provider_errors), (PicoUsd::ZERO, 4));
    assert!(ledger.was_provider_down());
}

#[tokio::test]
async fn the_end_of_the_phase_ends_the_tries() {
    let world = World::start(Script::error(503)).await;
    let mut connection = world.plain_model().await;
    connection
        .send("POST", "/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    eventually(async || world.model.requests().len() == 1).await;
    let switch = Switch {
        generation: 1,
        phase: EgressPhase::Verify,
        step: 0,
    };
    world.control().signed("POST", "/v1/phase", &switch).await;
    let ledger = world.settled_ledger().await;
    assert_eq!(
        (ledger.provider_failures, world.model.requests().len() < 4),
        (1, true)
    );
}

#[tokio::test]
async fn h3_a_stream_that_is_cut_is_perhaps_spent_until_the_router_tells_its_bill() {
    let world = World::start(Script::cut()).await;
    let answer = call(&world, &json!({"stream": true, "max_tokens": 1_000})).await;
    assert!(!answer.text().contains("[DONE]"));
    let ledger = world.settled_ledger().await;
    assert_eq!((ledger.settled, ledger.provider_failures), (PicoUsd::ZERO, 1));
    assert!(ledger.unresolved >= "0.002".parse().unwrap() && ledger.reconciling == 1);
    world.model.go_on();
    eventually(async || world.ledger().await.reconciling == 0).await;
    let ledger = world.ledger().await;
    assert_eq!(
        (ledger.cost_min().to_string(), ledger.cost_max().to_string()),
        ("0.0005".into(), "0.0005".into())
    );
    assert_eq!((ledger.input_tokens, ledger.output_tokens), (300, 100));
    let log = world.control().signed_get("/v1/log?from=0").await.text();
    let at = |entry: &str| log.find(&format!("\"entry\":\"{entry}\"")).unwrap();
    assert!(at("answering") < at("unresolved") && at("unresolved") < at("reconcile"));
}

/// The most that the service can bill for the output that it was asked for.
fn asked_for(world: &World) -> PicoUsd {
    let requests = world.model.requests();
    let tokens = requests
        .iter()
        .map(|seen| seen.body["max_tokens"].as_u64().unwrap());
    PicoUsd::from_pico(2_000_000).times(tokens.sum())
}

#[tokio::test]
async fn h3_streams_that_are_always_cut_cannot_cost_more_than_there_is() {
    let budget: PicoUsd = "0.003".parse().unwrap();
    let world = World::with(Script::cut(), |assignment| {
        assignment.purses.get_mut(&EgressPhase::Agent).unwrap().budget = budget;
    })
    .await;
    let body = chat(&json!({"stream": true, "max_tokens": 1_000}));
    while call(&world, &body).await.status == 200 {}
    let guarded = asked_for(&world);
    assert!(guarded > PicoUsd::ZERO && guarded <= budget, "{guarded}");
    assert_eq!(world.settled_ledger().await.settled, PicoUsd::ZERO);

    // Who books the usage that passes by has spent nothing and goes on for ever.
    let mut naive = NaiveBook::default();
    for _ in 0..2 {
        let mut straight = world.model.connect().await;
        naive.take(&straight.post("/v1/chat/completions", &[], &body).await);
    }
    assert_eq!(naive.ledger().cost_max(), PicoUsd::ZERO);
    assert!(asked_for(&world).saturating_sub(guarded) > budget);
}

#[tokio::test]
async fn f17_h_no_good_answer_repeats_the_credential() {
    for stream in [false, true] {
        let world = World::start(Script::leak()).await;
        let answer = call(&world, &json!({"stream": stream})).await;
        assert_eq!(answer.status, 200);
        assert!(
            !answer.text().contains("sk-real") && answer.text().contains("*******"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("request-id"), None);
        assert_eq!(world.settled_ledger().await.settled.to_string(), "0.00012");
    }
}

#[tokio::test]
async fn f17_h_no_error_repeats_the_credential() {
    for status in [400, 403, 500] {
        let world = World::start(Script::echo(status)).await;
        let answer = call(&world, &json!({})).await;
        assert_eq!(answer.status, status);
        assert!(!answer.text().contains("sk-real"));
    }
}

#[tokio::test]
async fn connections_to_the_service_are_used_again_and_new_ones_resume_their_session() {
    let world = World::start(Script::answer(100, 10)).await;
    for _ in 0..5 {
        assert_eq!(call(&world, &json!({})).await.status, 200);
    }
    assert_eq!((world.model.requests().len(), world.model.connections()), (5, 1));
    let (whole, stream) = (json!({}), json!({"stream": true}));
    let calls = [&whole, &stream, &whole].map(|fields| call(&world, fields));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 200);
    }
    assert!(
        world.model.connections() > 1,
        "requests at the same time need connections of their own"
    );
    assert_eq!(world.model.resumed(), world.model.connections() - 1);
}

#[tokio::test]
async fn d16_no_two_sandboxes_share_a_connection_or_a_session() {
    let world = World::start(Script::answer(100, 10)).await;
    let another = World::with(Script::answer(1, 1), |assignment| {
        assignment.upstreams[0].address = Some(world.model.address);
        assignment.upstreams[0].ca_pem = Some(world.model.root_pem.clone());
    })
    .await;
    // Within a sandbox they are shared: one for three calls.
    for connections in 1..=2 {
        let caller = [&world, &another][connections - 1];
        for _ in 0..3 {
            assert_eq!(call(caller, &json!({})).await.status, 200);
        }
        assert_eq!(world.model.connections(), connections);
    }
    assert_eq!((world.model.requests().len(), world.model.resumed()), (6, 0));
}
