//! What the control plane sees: signatures, the record, restarts and the end.

use std::time::Duration;

use assay_core::{
    control::proxy::{AuditLine, Health, Ledger, ProxyAssignment, Switch},
    digest::Digest,
    egress::Egress,
    money::PicoUsd,
    phase::EgressPhase,
    recording::Source,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    chat,
    model::Script,
    world::{self, MODEL_HOST, World, eventually},
};

#[tokio::test]
async fn a_proxy_that_has_served_only_reports_after_a_restart() {
    let world = World::start(Script::slow(100, 10)).await;
    let mut connection = world.plain_model().await;
    connection
        .send(
            "POST",
            "/v1/chat/completions",
            &[],
            &chat(&json!({"max_tokens": 1000})),
        )
        .await;
    eventually(async || world.model.requests().len() == 1).await;
    let before = world.ledger().await;
    let again = world.start_again();
    let health: Health = serde_json::from_slice(&again.get("/healthz").await.body).unwrap();
    assert!(!health.serving);
    let after = again.ledger().await;
    assert_eq!(after.cost_max(), before.reserved);
    assert_eq!(after.unresolved, before.reserved);
    assert_eq!(again.get("/trust").await.status, 404);
    let switch = Switch {
        generation: 9,
        phase: EgressPhase::Agent,
        step: 0,
    };
    assert_eq!(again.signed("POST", "/v1/phase", &switch).await.status, 409);
    assert!(!again.signed_get("/v1/log?from=0").await.body.is_empty());
    assert_eq!(again.signed_get("/v1/audit?from=0").await.status, 200);
}

/// What the service was asked for so far, at the prices of the table.
fn bill(world: &World) -> PicoUsd {
    PicoUsd::from_pico(120_000_000).times(u64::try_from(world.model.requests().len()).unwrap())
}

/// Calls until it is refused.
async fn spend(world: &World) {
    loop {
        let mut connection = world.plain_model().await;
        let answer = connection
            .post("/v1/chat/completions", &[], &chat(&json!({})))
            .await;
        if answer.status != 200 {
            return assert_eq!(answer.json()["error"]["code"], "budget_exhausted");
        }
    }
}

#[tokio::test]
async fn h4_neither_a_pause_nor_a_restart_gives_the_budget_again() {
    let budget: PicoUsd = "0.003".parse().unwrap();
    let granted = |assignment: &mut ProxyAssignment| {
        assignment.purses.get_mut(&EgressPhase::Agent).unwrap().budget = budget;
    };
    let mut world = World::with(Script::answer(100, 10), granted).await;
    spend(&world).await;
    let spent = bill(&world);
    assert!(spent > PicoUsd::ZERO && spent <= budget);

    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(24)).await;
    tokio::time::resume();
    spend(&world).await;
    let again = world.start_again();
    assert_eq!((bill(&world), again.ledger().await.settled), (spent, spent));

    // The same restart where nothing is found of what was written down.
    world.start_from_nothing(granted);
    spend(&world).await;
    assert!(bill(&world) > budget, "{} of {budget}", bill(&world));
}

#[tokio::test]
async fn h14_a_service_that_gets_dearer_is_not_asked_at_its_new_price() {
    let world = World::start(Script::dearer()).await;
    let straight = world
        .model
        .connect()
        .await
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    assert_eq!(straight.json()["usage"]["cost"], 0.000_24, "twice the table's");
    let answer = world
        .plain_model()
        .await
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(world.settled_ledger().await.cost_max(), PicoUsd::ZERO);
    assert_eq!(world.model.requests().len(), 2, "it was asked, and had to say no");
}

#[tokio::test]
async fn h14_no_other_policy_price_or_budget_reaches_a_proxy_that_runs() {
    let mut world = World::start(Script::answer(100, 10)).await;
    let loosened = |assignment: &mut ProxyAssignment| {
        let purse = assignment.purses.get_mut(&EgressPhase::Agent).unwrap();
        purse.budget = "1000".parse().unwrap();
        assignment.egress.insert(EgressPhase::Agent, Egress::Public);
        assignment
            .prices
            .values_mut()
            .for_each(|price| price.output = PicoUsd::ZERO);
    };
    let path = world.offer(loosened);
    let assignment: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let control = world.control();
    for route in ["/v1/assignment", "/v1/policy", "/v1/reload"] {
        for method in ["POST", "PUT"] {
            assert_eq!(
                control.signed(method, route, &assignment).await.status,
                404,
                "{route}"
            );
        }
    }
    let (status, ledger) = called(&world).await;
    // 100 in, 10 out, by the prices that it began with.
    assert_eq!((status, ledger.settled.to_string().as_str()), (200, "0.00012"));
    assert_eq!(ledger.budget.to_string(), "1");
    assert_eq!(
        world.http80("evil.example").await.json()["error"]["code"],
        "host_not_allowed"
    );
    // What can be changed is the phase, by signature and a higher generation, among those that it began with.
    let switch = Switch {
        generation: 1,
        phase: EgressPhase::Setup,
        step: 0,
    };
    assert_eq!(control.signed("POST", "/v1/phase", &switch).await.status, 200);
    assert_eq!(called(&world).await.0, 403, "no purse for this phase");
    // The file is there when it is started anew: it is taken away unread, and nobody is served.
    let again = world.start_again();
    assert!(!path.exists());
    assert_eq!(again.ledger().await.budget.to_string(), "1");
    // It would have done its work where it is read, as by a proxy that does not know that there was one before it.
    world.start_from_nothing(loosened);
    let (status, ledger) = called(&world).await;
    assert_eq!((status, ledger.settled.to_string().as_str()), (200, "0.0001"));
    assert_eq!(ledger.budget.to_string(), "1000");
    assert_ne!(
        world.http80("evil.example").await.json()["error"]["code"],
        "host_not_allowed"
    );
}

/// The status of a call, and the account after it.
async fn called(world: &World) -> (u16, Ledger) {
    let mut connection = world.plain_model().await;
    let answer = connection
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    (answer.status, world.settled_ledger().await)
}

#[tokio::test]
async fn control_refuses_what_is_unsigned_replayed_or_tampered_with() {
    let world = World::start(Script::answer(1, 1)).await;
    let control = world.control();
    assert_eq!(control.get("/v1/ledger").await.status, 401);
    let auth = control.authorize("GET", "/v1/ledger", b"").await;
    let once = control.request("GET", "/v1/ledger", Some(&auth), b"").await;
    assert_eq!(once.status, 200);
    assert!(world::Control::mac_fits(&auth, &once));
    assert_eq!(
        control
            .request("GET", "/v1/ledger", Some(&auth), b"")
            .await
            .status,
        401
    );
    let auth = control.authorize("GET", "/v1/ledger", b"").await;
    assert_eq!(
        control
            .request("GET", "/v1/log?from=0", Some(&auth), b"")
            .await
            .status,
        401
    );
    let auth = control.authorize("POST", "/v1/phase", b"{}").await;
    let body = serde_json::to_vec(&Switch {
        generation: 1,
        phase: EgressPhase::Verify,
        step: 0,
    })
    .unwrap();
    assert_eq!(
        control
            .request("POST", "/v1/phase", Some(&auth), &body)
            .await
            .status,
        401
    );
    assert_eq!(control.get("/trust").await.status, 200);
}

#[tokio::test]
async fn the_audit_is_chained_and_holds_no_secret() {
    let world = World::start(Script::answer(1, 1)).await;
    let mut connection = world.open_tls(MODEL_HOST).await.unwrap();
    connection
        .post("/api/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    world.http80("evil.example").await;
    let text = world.control().signed_get("/v1/audit?from=0").await.text();
    assert!(!text.contains("sk-real") && !text.contains("\"hi\""));
    let mut prev = "0".repeat(64);
    for line in text.lines() {
        let parsed: AuditLine = serde_json::from_str(line).unwrap();
        assert_eq!(parsed.prev, prev);
        prev = Digest::of(line).hex();
    }
    let log = world.control().signed_get("/v1/log?from=0").await.text();
    assert!(
        log.contains("\"entry\":\"reserve\"") && log.contains("\"entry\":\"settle\""),
        "{log}"
    );
}

#[tokio::test]
async fn after_sigterm_it_waits_until_it_is_collected() {
    let world = World::start(Script::answer(1, 1)).await;
    world.stop();
    eventually(async || {
        tokio::net::TcpStream::connect(world.workload().model)
            .await
            .is_err()
    })
    .await;
    assert_eq!(world.ledger().await.requests, 0);
    assert_eq!(
        world.control().signed("POST", "/v1/collected", &()).await.status,
        202
    );
    tokio::time::timeout(Duration::from_mins(2), world.finished())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_idle_control_connection_stays_open_beside_a_flood_of_the_workload() {
    let world = World::start(Script::answer(1, 1)).await;
    let mut kept = tokio::net::TcpStream::connect(world.control().address)
        .await
        .unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: proxy\r\n\r\n";
    let mut buffer = vec![0; 4096];
    kept.write_all(request).await.unwrap();
    assert!(kept.read(&mut buffer).await.unwrap() > 0);
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.extend(tokio::net::TcpStream::connect(world.control().address).await);
    }
    kept.write_all(request).await.unwrap();
    assert!(kept.read(&mut buffer).await.unwrap() > 0);
}

#[tokio::test]
async fn health_names_a_resolver_that_does_not_answer_and_a_recording_that_is_not_loaded() {
    let faults = async |world: &World| {
        let health = world.control().get("/healthz").await;
        serde_json::from_slice::<Health>(&health.body).unwrap().faults
    };
    let world = World::with(Script::answer(1, 1), |assignment| {
        assignment.phase = EgressPhase::Verify;
        // Nobody listens on the discard port.
        assignment.resolvers = vec!["127.0.0.1:9".parse().unwrap()];
    })
    .await;
    assert_eq!(faults(&world).await, [""; 0]);
    let answer = world.http80("public.example.org").await;
    assert_eq!(answer.json()["error"]["code"], "no_resolver");
    assert_eq!(faults(&world).await, ["no_resolver"]);
    let world = World::with(Script::answer(1, 1), |assignment| {
        assignment.replay = Some(Source {
            digest: Digest::of("recorded"),
            size_bytes: 8,
        });
    })
    .await;
    assert_eq!(faults(&world).await, ["replay_not_loaded"]);
    let loaded = world
        .control()
        .signed_bytes("POST", "/v1/replay?from=0", b"recorded")
        .await;
    assert_eq!((loaded.status, faults(&world).await), (200, Vec::new()));
}
