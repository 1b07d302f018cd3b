//! Groups F and G: ways out of a list of models. These are the very tests that the proxy has in process, here from a
//! hostile workload behind init-iptables, proxy and runner.

use assay_tests::stage::Walls;
use serde_json::{Value, json};

use self::bodies::{Way, every_service, method};
use crate::{
    d_http::calls,
    scene::{MODEL, OPEN, Shared},
};

#[path = "../../../proxy/tests/sandbox/ways_out/bodies.rs"]
pub(crate) mod bodies;
#[path = "../../../proxy/tests/sandbox/ways_out/inputs.rs"]
mod inputs;
#[path = "../../../proxy/tests/sandbox/ways_out/models.rs"]
mod models;
#[path = "../../../proxy/tests/sandbox/ways_out/services.rs"]
mod services;

/// As a sandbox is that may call services of every dialect.
pub(crate) static EVERY_SERVICE: Shared = Shared::with(Walls::ALL, every_service);

/// The service itself answers each of these in the open, and hears of none behind the walls.
async fn refused(ways: Vec<Way>) {
    let cases: Vec<Value> = ways.iter().enumerate().map(|(at, way)| case(at, way)).collect();
    let Some(open) = OPEN.take() else { return };
    let (outcome, told) = calls(&open, &cases);
    assert!(outcome.seen.reached(MODEL), "{}", outcome.text);
    assert_eq!(told.len(), cases.len());
    for ((name, status, _), way) in told.iter().zip(&ways) {
        assert_ne!(status, "000", "{name} arrives nowhere: {way:?}");
    }
    drop(open);
    let stage = EVERY_SERVICE.take().unwrap();
    let (outcome, told) = calls(&stage, &cases);
    assert_eq!(told.len(), cases.len());
    for ((_, status, code), way) in told.iter().zip(&ways) {
        assert_eq!((status.as_str(), code.as_str()), ("403", way.3), "{way:?}");
    }
    assert!(!outcome.seen.reached(MODEL), "not a byte reached the service");
    assert_eq!(stage.ledger().unwrap().requests, 0);
}

fn case(at: usize, way: &Way) -> Value {
    let (host, path, body, _) = way;
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    json!({"name": at.to_string(), "to": host, "host": host, "path": path, "method": method(body), "body": text})
}
