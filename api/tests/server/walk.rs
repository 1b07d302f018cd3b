//! One walk over every route, so that each has at least one good answer that was checked against the document.

use std::collections::BTreeSet;

use assay_core::{
    cause::Cause,
    phase::Phase,
    wire::{people::Scope, worker::Progress},
};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    contract::{operation, operations},
    stage::{JSON, Stage, stage, task_archive},
    work::{lease, report},
};

/// Calls routes and remembers which.
struct Walk<'s> {
    stage: &'s Stage,
    seen: BTreeSet<String>,
}

impl Walk<'_> {
    async fn go(&mut self, method: Method, path: &str, key: &str, body: Option<Value>) -> Value {
        let described = operation(&method, path).unwrap_or_else(|| panic!("{method} {path}"));
        let sent = body.as_ref().map(|body| (JSON, body.to_string().into_bytes()));
        let stage = self.stage;
        let answered = stage
            .send(stage.at(1, path), method.clone(), Some(key), sent)
            .await;
        let (status, answer) = answered.unwrap();
        assert!(status.is_success(), "{method} {path}: {answer:?}");
        if let Some(body) = &body {
            crate::contract::check_request(&method, path, body);
        }
        self.seen.insert(format!("{method} {}", described.path));
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    async fn get(&mut self, path: &str) -> Value {
        let key = self.stage.validator.clone();
        self.go(Method::GET, path, &key, None).await
    }

    async fn post(&mut self, path: &str, body: Value) -> Value {
        let key = self.stage.validator.clone();
        self.go(Method::POST, path, &key, Some(body)).await
    }

    async fn work(&mut self, path: &str, body: Value) -> Value {
        let key = self.stage.worker_key.clone();
        self.go(Method::POST, path, &key, Some(body)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_has_an_answer_that_fits_the_document() {
    let Some(stage) = stage().await else { return };
    let mut walk = Walk {
        stage: &stage,
        seen: BTreeSet::new(),
    };
    let evaluation = submit(&mut walk).await;
    work(&mut walk, &evaluation).await;
    read(&mut walk, &evaluation).await;
    let all: BTreeSet<String> = operations()
        .iter()
        .map(|operation| format!("{} {}", operation.method, operation.path))
        .collect();
    assert_eq!(walk.seen, all);
}

async fn submit(walk: &mut Walk<'_>) -> String {
    walk.get("/version").await;
    walk.get("/openapi.json").await;
    walk.get("/v1/limits").await;
    walk.get("/v1/clock").await;
    let archive = task_archive("walked", "");
    let digest = assay_core::digest::Digest::of(&archive);
    let size = archive.len();
    walk.post("/v1/uploads", json!({"digest": digest, "size_bytes": size}))
        .await;
    walk.stage.upload(archive).await;
    walk.post("/v1/tasks", json!({"digest": digest, "name": "walked"}))
        .await;
    walk.get("/v1/tasks?limit=1").await;
    walk.get(&format!("/v1/tasks/{digest}")).await;
    let agent = json!({"name": "nop", "contract": "nop", "digest": null});
    let agent = walk.post("/v1/agents", agent).await["id"].clone();
    walk.get("/v1/agents").await;
    walk.get(&format!("/v1/agents/{}", agent.as_str().unwrap())).await;
    let set = json!({"name": "set", "tasks": [digest]});
    let set = walk.post("/v1/task-sets", set).await["id"].clone();
    walk.get("/v1/task-sets").await;
    walk.get(&format!("/v1/task-sets/{}", set.as_str().unwrap()))
        .await;
    walk.post("/v1/keys", json!({"name": "k", "scope": Scope::Viewer}))
        .await;
    let key = walk.stage.validator.clone();
    walk.go(Method::DELETE, "/v1/keys/k", &key, None).await;
    let new = json!({"agent": agent, "task_set": set, "repeats": 2});
    let evaluation = walk.post("/v1/evaluations", new).await;
    evaluation["id"].as_str().unwrap().to_owned()
}

async fn work(walk: &mut Walk<'_>, evaluation: &str) {
    let new = json!({"name": "w", "class": "1", "slots": 2, "engine": "containers", "commit": "c",
        "wire": assay_core::wire::WIRE, "wire_oldest": assay_core::wire::WIRE_OLDEST});
    let worker = walk.work("/v1/workers", new).await["worker"].clone();
    let at = |verb: &str| format!("/v1/workers/{}/{verb}", worker.as_str().unwrap());
    let claimed = walk.work(&at("claim"), json!({"slots": 1})).await;
    let held: assay_core::wire::worker::Assignment =
        serde_json::from_value(claimed["assignments"][0].clone()).unwrap();
    assert_eq!(held.evaluation.to_string(), evaluation);
    let leases = json!([lease(&held)]);
    walk.work(&at("beat"), json!({"leases": leases, "claiming": true}))
        .await;
    walk.work(&at("orphans"), json!({"attempts": [Uuid::nil()]}))
        .await;
    let event = json!({"seq": 1, "at": "2026-01-01T00:00:00Z", "step": 0, "phase": Phase::Agent,
        "kind": "note", "data": {}});
    let events = json!({"fence": held.fence, "events": [event], "progress": Progress::default()});
    let attempt = |part: &str| format!("/v1/attempts/{}/{part}", held.attempt);
    walk.work(&attempt("events"), events).await;
    let chunk = format!(
        "output?fence={}&step=0&phase=agent&stream=stdout&offset=0",
        held.fence
    );
    let (stage, key) = (walk.stage, walk.stage.worker_key.clone());
    let bytes = Some(("application/octet-stream", b"hello".to_vec()));
    let (url, put) = (stage.at(1, &attempt(&chunk)), Method::PUT);
    assert!(
        stage
            .send(url, put, Some(&key), bytes)
            .await
            .unwrap()
            .0
            .is_success()
    );
    let recording = format!(
        "output?fence={}&step=0&phase=proxy&stream=recording&offset=0",
        held.fence
    );
    let (url, line) = (stage.at(1, &attempt(&recording)), b"{}\n".to_vec());
    let bytes = Some(("application/octet-stream", line));
    let sent = stage.send(url, Method::PUT, Some(&key), bytes).await;
    assert!(sent.unwrap().0.is_success());
    walk.seen.insert("PUT /v1/attempts/{id}/output".to_owned());
    for asked in ["accounts", "task"] {
        let path = attempt(&format!("{asked}?fence={}", held.fence));
        walk.go(Method::GET, &path, &key, None).await;
    }
    let artifact = json!({"fence": held.fence, "name": "a", "media_type": "text/plain", "size_bytes": 1,
        "digest": assay_core::digest::Digest::of("a")});
    let put = walk.work(&attempt("artifacts"), artifact).await;
    stage.put_url(put["url"].as_str().unwrap(), b"a".to_vec()).await;
    let report = serde_json::to_value(report(&held, Cause::Completed)).unwrap();
    walk.work(&attempt("report"), report).await;
    walk.work(&at("handoff"), json!({"leases": leases})).await;
}

async fn read(walk: &mut Walk<'_>, evaluation: &str) {
    walk.get("/v1/evaluations").await;
    walk.get(&format!("/v1/evaluations/{evaluation}")).await;
    let runs = walk.get(&format!("/v1/runs?evaluation={evaluation}")).await;
    let ended = |run: &&Value| run["state"] == "finished";
    let run = runs["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(ended)
        .unwrap()
        .clone();
    let id = run["id"].as_str().unwrap();
    walk.get(&format!("/v1/runs/{id}")).await;
    walk.get(&format!("/v1/runs/{id}/attempts")).await;
    let attempt = run["attempt"].as_str().unwrap();
    for part in [
        "",
        "/events",
        "/outputs",
        "/output?phase=agent&stream=stdout",
        "/artifacts",
    ] {
        walk.get(&format!("/v1/attempts/{attempt}{part}")).await;
    }
    let key = walk.stage.validator.clone();
    walk.go(Method::POST, &format!("/v1/runs/{id}/recording"), &key, None)
        .await;
    for path in [
        format!("/v1/runs/{id}/cancel"),
        format!("/v1/evaluations/{evaluation}/cancel"),
    ] {
        walk.go(Method::POST, &path, &key, None).await;
    }
}
