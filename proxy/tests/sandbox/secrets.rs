//! Secret values: the workload holds a placeholder, one host gets the value, and nobody gets it back.

use assay_core::{
    control::proxy::{ProxyAssignment, Switch},
    phase::EgressPhase,
    secret::Injection,
    upstream::Secret,
};
use serde_json::json;

use crate::{
    chat,
    model::Script,
    world::{OTHER_HOST, World},
};

const PLACEHOLDER: &str = "assay-placeholder-0123456789abcdef";
const VALUE: &str = "ghp-the-real-value-0123456789";
const PATH: &str = "/v1/chat/completions";

/// In setup, where the ordinary host may be reached.
fn with_secret(assignment: &mut ProxyAssignment) {
    assignment.phase = EgressPhase::Setup;
    assignment
        .extra_roots_pem
        .clone_from(&assignment.upstreams[0].ca_pem);
    assignment.injections = vec![Injection {
        placeholder: PLACEHOLDER.to_owned(),
        value: Secret::new(VALUE),
        host: OTHER_HOST.parse().unwrap(),
        header: "authorization".to_owned(),
    }];
}

#[tokio::test]
async fn the_host_gets_the_value_and_the_workload_never_does() {
    let world = World::with(Script::leak(), with_secret).await;
    let mut connection = world.open_tls(OTHER_HOST).await.unwrap();
    let bearer = format!("Bearer {PLACEHOLDER}");
    for _ in 0..2 {
        let headers = [("authorization", bearer.as_str()), ("range", "bytes=0-5")];
        let answer = connection.post(PATH, &headers, &chat(&json!({}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        assert!(
            !text.contains(VALUE) && text.contains(&"*".repeat(VALUE.len())),
            "{text}"
        );
        // The service repeats it here too.
        assert_eq!(answer.header("request-id"), None);
    }
    let seen = world.model.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        seen[1].header("authorization"),
        Some(format!("Bearer {VALUE}").as_str())
    );
    assert_eq!(
        (seen[1].header("range"), seen[1].header("accept-encoding")),
        (None, Some("identity"))
    );
    assert_eq!(world.model.connections(), 1, "the connection is used again");
    let told = world.audit().await;
    assert_eq!(told.iter().filter(|line| line.reason == "injected").count(), 2);
    for file in world.state_files() {
        assert!(!file.contains(VALUE), "{file}");
    }
}

#[tokio::test]
async fn another_header_a_wrong_placeholder_and_port_80_get_nothing() {
    let world = World::with(Script::answer(1, 1), with_secret).await;
    let mut connection = world.open_tls(OTHER_HOST).await.unwrap();
    let headers = [
        ("x-token", PLACEHOLDER),
        ("authorization", "Bearer assay-placeholder-of-another"),
    ];
    assert_eq!(
        connection.post(PATH, &headers, &chat(&json!({}))).await.status,
        200
    );
    let seen = world.model.requests();
    assert_eq!(seen[0].header("x-token"), Some(PLACEHOLDER));
    assert_eq!(seen[0].header("authorization"), Some(headers[1].1));
    world.http80(OTHER_HOST).await;
    assert!(world.audit().await.iter().all(|line| line.reason != "injected"));
}

#[tokio::test]
async fn requests_that_would_go_astray_are_refused() {
    let world = World::with(Script::answer(1, 1), with_secret).await;
    let bearer = format!("Bearer {PLACEHOLDER}");
    for (method, headers, code) in [
        ("POST", vec![("host", "evil.example.org")], "host_mismatch"),
        ("TRACE", vec![], "method_not_allowed"),
        (
            "GET",
            vec![("connection", "upgrade"), ("upgrade", "websocket")],
            "upgrade_not_allowed",
        ),
    ] {
        let mut connection = world.open_tls(OTHER_HOST).await.unwrap();
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend(headers);
        connection
            .send(method, PATH, &all, &serde_json::Value::Null)
            .await;
        let answer = connection.receive().await;
        assert_eq!(answer.json()["error"]["code"], code);
    }
    assert!(world.model.requests().is_empty());
}

#[tokio::test]
async fn a_secret_widens_nothing_and_its_certificate_is_checked() {
    let world = World::with(Script::answer(1, 1), with_secret).await;
    let mut connection = world.open_tls(OTHER_HOST).await.unwrap();
    let switch = Switch {
        generation: 1,
        phase: EgressPhase::Agent,
        step: 0,
    };
    world.control().signed("POST", "/v1/phase", &switch).await;
    assert!(connection.is_closed().await);
    assert!(world.open_tls(OTHER_HOST).await.is_err());
    let world = World::with(Script::answer(1, 1), |assignment| {
        with_secret(assignment);
        assignment.extra_roots_pem = None;
    })
    .await;
    let mut connection = world.open_tls(OTHER_HOST).await.unwrap();
    let bearer = format!("Bearer {PLACEHOLDER}");
    let answer = connection
        .post(PATH, &[("authorization", bearer.as_str())], &chat(&json!({})))
        .await;
    assert_eq!(answer.json()["error"]["code"], "upstream_unreachable");
    assert!(world.model.requests().is_empty());
}
