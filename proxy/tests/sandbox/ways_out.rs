//! Every way out of the allow-list of models that the routers and providers offer: the body, 403, a stable code, and not
//! one byte to the service. Each test names the row of the threat list that it closes.

use self::bodies::{Way, every_service, method};
use crate::{
    model::{Model, Script},
    world::{World, tls},
};

#[path = "ways_out/bodies.rs"]
pub(crate) mod bodies;
#[path = "ways_out/inputs.rs"]
mod inputs;
#[path = "ways_out/models.rs"]
mod models;
#[path = "ways_out/others.rs"]
mod others;
#[path = "ways_out/services.rs"]
mod services;

/// Each of these arrives at a service when nobody is in between, and none through the proxy.
async fn refused(ways: Vec<Way>) {
    let world = World::with(Script::answer(1, 1), every_service).await;
    arrive(&world.model, &ways).await;
    let before = world.model.connections();
    for (host, path, body, code) in ways {
        let method = method(&body);
        let mut connection = world.open_tls(host).await.unwrap();
        connection.send(method, path, &[], &body).await;
        let answer = connection.receive().await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, error["code"].as_str()),
            (403, Some(code)),
            "{method} {host}{path} {body}: {error}"
        );
        assert_eq!(error["retryable"], false);
    }
    assert_eq!(world.model.connections(), before);
    assert_eq!(world.ledger().await.requests, 0);
}

async fn arrive(model: &Model, ways: &[Way]) {
    for (host, path, body, _) in ways {
        let mut straight = tls(model.address, host, &model.root_pem).await.unwrap();
        straight.send(method(body), path, &[], body).await;
        straight.receive().await;
    }
    let sent = ways
        .iter()
        .map(|(_, path, body, _)| (method(body).to_owned(), (*path).to_owned(), body.clone()));
    assert_eq!(model.arrivals(), sent.collect::<Vec<_>>());
}
