//! Routes and document are the same set, and what the document says about callers holds.

use std::collections::BTreeSet;

use assay_core::wire::people::Scope;
use http::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    contract::{DOCUMENT, Operation, operations},
    stage::{Stage, stage},
};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// The paths that the router itself holds, read from its debug output: axum lists them nowhere else.
fn real_paths() -> BTreeSet<String> {
    let (router, _) = assay_api::routes::described().split_for_parts();
    let text = format!("{router:?}");
    let text = text.split("fallback_router").next().unwrap();
    text.split('"')
        .skip(1)
        .step_by(2)
        .filter(|quoted| quoted.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

fn call(operation: &Operation) -> String {
    let filled = operation.path.replace("{id}", &Uuid::nil().to_string());
    filled.replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
}

async fn status(stage: &Stage, method: &Method, path: &str, key: Option<&str>) -> (StatusCode, Value) {
    let (status, body) = stage
        .send(stage.at(0, path), method.clone(), key, None)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_every_description_is_a_route() {
    let described: BTreeSet<String> = DOCUMENT["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(real_paths(), described);
    let Some(stage) = stage().await else { return };
    for path in described {
        for method in METHODS {
            let known = operations()
                .iter()
                .any(|operation| operation.path == path && operation.method == method);
            let (status, _) = status(&stage, &method, &path, None).await;
            assert_eq!(known, status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_the_document_says_and_no_more() {
    let Some(stage) = stage().await else { return };
    let scopes = [Scope::Viewer, Scope::Validator, Scope::Admin, Scope::Worker];
    for operation in operations() {
        let (path, may) = (call(operation), operation.scopes());
        let place = format!("{} {}", operation.method, operation.path);
        let (without, _) = status(&stage, &operation.method, &path, None).await;
        assert_eq!(without == StatusCode::UNAUTHORIZED, !may.is_empty(), "{place}");
        for scope in scopes.into_iter().filter(|_| !may.is_empty()) {
            let key = stage.key(scope).await;
            let (status, _) = status(&stage, &operation.method, &path, Some(&key)).await;
            let allowed = status != StatusCode::FORBIDDEN;
            assert_eq!(allowed, may.contains(scope.name()), "{place} as {}", scope.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_to_everybody() {
    let Some(stage) = stage().await else { return };
    let (answered, served) = status(&stage, &Method::GET, "/openapi.json", None).await;
    assert_eq!((answered, &served), (StatusCode::OK, &*DOCUMENT));
}
