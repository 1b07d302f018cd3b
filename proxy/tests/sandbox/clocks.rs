//! The wall clock is stepped forward and back while the proxy serves. Limits and deadlines go by the monotonic clock, which
//! nobody can step; what goes by the wall clock are certificates and the times in the records.

use std::sync::Arc;

use assay_core::{
    audit::{AuditLine, Broken, Chain},
    clock::{Clock as _, ManualClock, SystemClock},
    control::{
        proxy::Health,
        signature::{Claim, Gate, Signer},
    },
    id::Fence,
    money::PicoUsd,
    phase::EgressPhase,
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    chat,
    model::Script,
    naive::WallMinute,
    world::{MODEL_HOST, World},
};

const DAY: i64 = 24;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(SystemClock.now()))
}

async fn call(world: &World) -> (u16, String) {
    let mut connection = world.plain_model().await;
    let answer = connection
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    let code = match answer.status {
        200 => String::new(),
        _ => answer.json()["error"]["code"].as_str().unwrap().to_owned(),
    };
    (answer.status, code)
}

async fn faults(world: &World) -> Vec<String> {
    let health: Health = serde_json::from_slice(&world.control().get("/healthz").await.body).unwrap();
    assert!(health.serving);
    health.faults
}

const SANDBOX: &str = "01900000-0000-7000-8000-000000000007";
const BOOT: &str = "boot";

/// A signed header for [`gate`], good for a minute by this clock.
fn signed(clock: &ManualClock, nonce: &str) -> String {
    let claim = Claim {
        sandbox: SANDBOX.parse().unwrap(),
        fence: Fence(1),
        nonce: nonce.to_owned(),
        deadline_ms: wall_ms(clock) + 60_000,
        boot: BOOT.to_owned(),
        content: None,
    };
    Signer::new(&[7; 32]).authorize(&claim, "GET", "/")
}

/// The gate that stands before control.
fn gate() -> Gate {
    let key = Signer::new(&[7; 32]).public_key();
    Gate::new(&key, SANDBOX.parse().unwrap(), BOOT.to_owned(), Fence(1)).unwrap()
}

/// What stands in for the monotonic clock where somebody has only the other one.
fn wall_ms(clock: &ManualClock) -> u64 {
    u64::try_from(clock.now().as_millisecond()).unwrap()
}

#[tokio::test]
async fn j3_no_step_of_the_wall_clock_gives_a_request_or_a_signature_away() {
    let clock = clock();
    let world = World::by_clock(
        Arc::<ManualClock>::clone(&clock),
        Script::answer(100, 10),
        |assignment| {
            let purse = assignment.purses.get_mut(&EgressPhase::Agent).unwrap();
            purse.requests_per_minute = Some(1);
        },
    )
    .await;
    // Who counts by the clock that is stepped: a limit, and the same gate for signatures.
    let mut minute = WallMinute::new(Arc::<ManualClock>::clone(&clock));
    let (mut gate, stolen) = (gate(), signed(&clock, "stolen"));
    let mut passes = |header: &str| gate.admit(wall_ms(&clock), header, "GET", "/").is_ok();
    assert!(minute.admits() && passes(&stolen) && !passes(&stolen));
    let mut passed_again = 0;
    let control = world.control();
    let used = control.authorize("GET", "/v1/ledger", b"").await;
    assert_eq!(
        control
            .request("GET", "/v1/ledger", Some(&used), b"")
            .await
            .status,
        200
    );
    assert_eq!(call(&world).await.0, 200);
    for hours in [1, -1, 20 * 365 * DAY, -40 * 365 * DAY, 20 * 365 * DAY + 1] {
        let before = clock.now();
        clock.advance(SignedDuration::from_hours(hours));
        assert_ne!(clock.now(), before, "the step itself happens");
        assert!(minute.admits(), "by the wall clock this is another minute");
        assert!(passes(&signed(&clock, &hours.to_string())));
        passed_again += usize::from(passes(&stolen));
        assert_eq!(call(&world).await, (403, "rate_exhausted".to_owned()), "{hours}");
        let again = control.request("GET", "/v1/ledger", Some(&used), b"").await;
        assert_eq!(again.status, 401, "{hours}");
        assert_eq!(control.ledger().await.requests, 1);
    }
    assert!(
        passed_again > 0,
        "a gate by the wall clock forgets what it has seen"
    );
    let ledger = world.settled_ledger().await;
    assert_eq!(
        (ledger.settled.to_string().as_str(), ledger.unresolved),
        ("0.00012", PicoUsd::ZERO)
    );
    assert_eq!(world.model.requests().len(), 1);
}

#[tokio::test]
async fn j3_records_stay_whole_and_certificates_are_told_when_the_clock_has_left_them() {
    let clock = clock();
    let world = World::by_clock(Arc::<ManualClock>::clone(&clock), Script::answer(100, 10), |_| {}).await;
    let steps = [
        (DAY, true),
        (-2 * DAY, true),
        (24 * DAY, true),
        (10 * DAY, false),
        (-33 * DAY, true),
        (-10 * DAY, false),
        (10 * DAY, true),
    ];
    for (hours, is_valid) in steps {
        clock.advance(SignedDuration::from_hours(hours));
        let expected: &[&str] = if is_valid { &[] } else { &["certificates_expired"] };
        assert_eq!(faults(&world).await, expected, "{hours}");
        // This client has a clock of its own, which is right.
        let mut opened = world.open_tls(MODEL_HOST).await.unwrap();
        let answer = opened
            .post("/api/v1/chat/completions", &[], &chat(&json!({})))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let audit = world.control().signed_get("/v1/audit?from=0").await;
    let times: Vec<String> = world.audit().await.into_iter().map(|line| line.time).collect();
    assert!(!times.is_sorted(), "the records tell what the clock said");
    assert_eq!(broken(&audit.text()), None);
    let text = audit.text();
    let mut by_time: Vec<&str> = text.lines().collect();
    by_time.sort_by_key(|line| serde_json::from_str::<AuditLine>(line).unwrap().time);
    assert!(
        broken(&(by_time.join("\n") + "\n")).is_some(),
        "a record that went by its times would be another one"
    );
    assert_eq!(world.settled_ledger().await.settled.to_string(), "0.00084");
}

/// The first line that does not follow.
fn broken(audit: &str) -> Option<Broken> {
    let mut chain = Chain::default();
    chain.push(audit.as_bytes());
    chain.finish().broken
}

#[tokio::test]
async fn j3_a_certificate_that_the_clock_has_left_gets_no_request() {
    let clock = clock();
    let world = World::by_clock(Arc::<ManualClock>::clone(&clock), Script::answer(100, 10), |_| {}).await;
    // Beyond the last day of the scripted service's certificate.
    clock.advance(SignedDuration::from_hours(3_000 * 365 * DAY));
    assert_eq!(call(&world).await.0, 502);
    assert!(world.model.connections() > 0 && world.model.requests().is_empty());
    // A caller that does not go by this clock sends it.
    let mut straight = world.model.connect().await;
    let answer = straight
        .post("/v1/chat/completions", &[], &chat(&json!({})))
        .await;
    assert_eq!((answer.status, world.model.requests().len()), (200, 1));
    let ledger = world.settled_ledger().await;
    assert_eq!(
        ledger.cost_max(),
        PicoUsd::ZERO,
        "what was not sent costs nothing"
    );
    clock.advance(SignedDuration::from_hours(-3_000 * 365 * DAY));
    assert_eq!(call(&world).await.0, 200);
}
