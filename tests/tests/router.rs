//! What the control plane asks a model router about: bills and workspaces, against the scripted service.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{collections::BTreeMap, time::Duration};

use assay_core::upstream::{Dialect, Upstream, Workspace};
use assay_runtime::router::Router;
use assay_tests::model::{Model, Script, Settings};
use serde_json::json;

async fn service(dialect: Dialect) -> (Model, Upstream) {
    let model = Model::start(Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        names: vec!["router.example.com".to_owned()],
        dialect,
        dialects: BTreeMap::new(),
        key: "sk-real".to_owned(),
        prices: assay_core::price::PriceTable::default(),
        script: Script::default(),
        pace: Duration::ZERO,
    })
    .await
    .unwrap();
    let upstream = serde_json::from_value(json!({
        "host": "router.example.com", "base_path": "/api/v1", "dialect": dialect, "models": [],
        "credential": "sk-real", "address": model.address, "ca_pem": model.root_pem,
    }));
    (model, upstream.unwrap())
}

fn workspace(id: &str, key: &str) -> Workspace {
    serde_json::from_value(json!({"id": id, "management_key": key})).unwrap()
}

#[tokio::test]
async fn a_workspace_tells_what_it_keeps_to_its_own_key_alone() {
    let (_model, upstream) = service(Dialect::OpenRouter).await;
    let router = Router::new(&upstream).unwrap();
    assert!(
        router
            .privacy(&workspace("private", "sk-real"))
            .await
            .unwrap()
            .is_private()
    );
    assert!(
        !router
            .privacy(&workspace("other", "sk-real"))
            .await
            .unwrap()
            .is_private()
    );
    assert!(router.privacy(&workspace("private", "wrong")).await.is_err());
}

#[tokio::test]
async fn an_answer_that_nobody_knows_has_no_bill() {
    let (_model, upstream) = service(Dialect::OpenRouter).await;
    let router = Router::new(&upstream).unwrap();
    assert_eq!(router.bill("gen-404").await.unwrap(), None);
    assert_eq!(router.bill("no name&x=y").await.unwrap(), None);
}

#[tokio::test]
async fn a_certificate_of_another_root_is_not_trusted_and_other_services_have_no_records() {
    let (_model, mut upstream) = service(Dialect::OpenRouter).await;
    upstream.ca_pem = None;
    assert!(Router::new(&upstream).unwrap().bill("gen-1").await.is_err());
    upstream.dialect = Dialect::OpenAi;
    assert!(Router::new(&upstream).is_none());
}
