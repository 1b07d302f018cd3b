//! Keys, tenants, idempotency, pages, refusals at submit.

use std::sync::Arc;

use assay_core::{
    agent::Contract,
    cause::Cause,
    wire::people::{
        Agent, Evaluation, Key, NewAgent, NewEvaluation, NewKey, NewTask, NewTaskSet, NewUpload, Page, Run,
        Scope, Task, TaskSet, Upload, Version,
    },
};
use assay_runtime::client::{self, Error};
use http::{Method, StatusCode};

use crate::stage::{Stage, code, stage, task_archive, together};

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_somebody_else_does_not_exist() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    let new = NewTaskSet {
        name: "set".to_owned(),
        tasks: vec![stage.task().await],
    };
    let set: TaskSet = stage
        .call(Method::POST, "/v1/task-sets", Some(&new))
        .await
        .unwrap();
    let (run, attempt) = (held.run, held.attempt);
    let mut paths = vec![
        format!("/v1/tasks/{}", stage.task().await),
        format!("/v1/agents/{}", evaluation.agent),
        format!("/v1/task-sets/{}", set.id),
        format!("/v1/evaluations/{}", evaluation.id),
        format!("/v1/runs/{run}"),
        format!("/v1/runs/{run}/attempts"),
    ];
    let parts = [
        "",
        "/events",
        "/outputs",
        "/output?phase=agent&stream=stdout",
        "/artifacts",
    ];
    paths.extend(parts.map(|part| format!("/v1/attempts/{attempt}{part}")));
    for path in paths {
        let foreign: Result<serde_json::Value, _> = stage
            .call_as(&stage.stranger, Method::GET, &path, None::<&()>)
            .await;
        assert_eq!(code(foreign), "not_found", "{path}");
    }
    for path in [
        format!("/v1/evaluations/{}/cancel", evaluation.id),
        format!("/v1/runs/{run}/cancel"),
    ] {
        let foreign: Result<serde_json::Value, _> = stage
            .call_as(&stage.stranger, Method::POST, &path, None::<&()>)
            .await;
        assert_eq!(code(foreign), "not_found", "{path}");
    }
    stage.finish(&held, Cause::Completed).await;
    let theirs: Page<Evaluation> = stage
        .call_as(&stage.stranger, Method::GET, "/v1/evaluations", None::<&()>)
        .await
        .unwrap();
    assert!(theirs.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_do_what_their_scope_says() {
    let Some(stage) = stage().await else { return };
    let new = NewKey {
        name: "reader".to_owned(),
        scope: Scope::Viewer,
        worker_class: None,
    };
    let viewer: Key = stage.call(Method::POST, "/v1/keys", Some(&new)).await.unwrap();
    let listed: Result<Page<Evaluation>, _> = stage
        .call_as(&viewer.secret, Method::GET, "/v1/evaluations", None::<&()>)
        .await;
    assert!(listed.is_ok());
    let body = stage.submission(1).await;
    for key in [&viewer.secret, &stage.worker_key] {
        let refused: Result<Evaluation, _> = stage
            .call_as(key, Method::POST, "/v1/evaluations", Some(&body))
            .await;
        assert_eq!(code(refused), "forbidden");
    }
    let refused: Result<Key, _> = stage
        .call_as(&viewer.secret, Method::POST, "/v1/keys", Some(&new))
        .await;
    assert_eq!(code(refused), "forbidden");
    let unknown: Result<Page<Run>, _> = stage
        .call_as("assay_no", Method::GET, "/v1/runs", None::<&()>)
        .await;
    assert_eq!(code(unknown), "unauthorized");
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM keys")
        .fetch_all(&stage.pool)
        .await
        .unwrap();
    assert!(
        kept.iter()
            .all(|hash| hash.len() == 32 && hash != viewer.secret.as_bytes())
    );
}

async fn submit_with(stage: &Stage, key: &str, body: &impl serde::Serialize) -> Result<Evaluation, Error> {
    submit_as(stage, &stage.validator, key, body).await
}

async fn submit_as(
    stage: &Stage,
    who: &str,
    key: &str,
    body: &impl serde::Serialize,
) -> Result<Evaluation, Error> {
    let url = format!("{}/v1/evaluations", stage.replicas[1].0);
    let request = http::Request::post(&url)
        .header("authorization", format!("Bearer {who}"))
        .header("idempotency-key", key)
        .body(client::full(serde_json::to_vec(body).unwrap()))
        .unwrap();
    let response = stage.client.send(request).await?;
    let status = response.status();
    let body = stage.client.read(response, &url).await?;
    if status != StatusCode::OK {
        return Err(client::problem(status, &body));
    }
    Ok(serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_makes_one_evaluation() {
    let Some(stage) = stage().await else { return };
    let stage = Arc::new(stage);
    let body = Arc::new(stage.submission(2).await);
    let calls = (0..8).map(|_| {
        let (stage, body) = (Arc::clone(&stage), Arc::clone(&body));
        async move { submit_with(&stage, "once", &*body).await.unwrap().id }
    });
    let ids: std::collections::BTreeSet<_> = together(calls).await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    let all: Page<Evaluation> = stage.get("/v1/evaluations").await.unwrap();
    assert_eq!(all.items.len(), 1);
    let mut other = (*body).clone();
    other.repeats = 3;
    assert_eq!(
        code(submit_with(&stage, "once", &other).await),
        "idempotency_key_reused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_of_one_tenant_says_nothing_to_another() {
    let Some(stage) = stage().await else { return };
    let body = stage.submission(1).await;
    let ours = submit_with(&stage, "once", &body).await.unwrap();
    // The same task and agent, as the other tenant has them.
    let bytes = task_archive("hello", "");
    let digest = body.tasks[0];
    let new = NewUpload {
        digest,
        size_bytes: bytes.len() as u64,
    };
    let upload: Upload = as_stranger(&stage, "/v1/uploads", &new).await;
    if let Some(url) = upload.url {
        stage.put_url(&url, bytes).await;
    }
    let new = NewTask {
        digest,
        name: "hello".to_owned(),
    };
    let _: Task = as_stranger(&stage, "/v1/tasks", &new).await;
    let new = NewAgent {
        name: "oracle".to_owned(),
        contract: Contract::Oracle,
        digest: None,
    };
    let agent: Agent = as_stranger(&stage, "/v1/agents", &new).await;
    let body = NewEvaluation {
        agent: agent.id,
        ..body
    };
    let theirs = submit_as(&stage, &stage.stranger, "once", &body).await.unwrap();
    assert_ne!(theirs.id, ours.id);
    let again = submit_as(&stage, &stage.stranger, "once", &body).await.unwrap();
    assert_eq!(again.id, theirs.id);
}

async fn as_stranger<A: serde::de::DeserializeOwned>(
    stage: &Stage,
    path: &str,
    body: &(impl serde::Serialize + Sync),
) -> A {
    stage
        .call_as(&stage.stranger, Method::POST, path, Some(body))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_cannot_run_is_refused_by_name() {
    let Some(stage) = stage().await else { return };
    let good = stage.submission(1).await;
    let mut unpriced = good.clone();
    unpriced.policy.models.allow.insert("a/unpriced".parse().unwrap());
    unpriced.policy.budget.run_usd = "1".parse().unwrap();
    let mut unknown = good.clone();
    unknown.tasks = vec![assay_core::digest::Digest::of("nothing")];
    let mut twice = good.clone();
    twice.tasks = vec![good.tasks[0], good.tasks[0]];
    let mut none = good.clone();
    none.tasks = Vec::new();
    let mut stranger = good.clone();
    stranger.agent = assay_core::id::AgentId(uuid::Uuid::nil());
    let mut priority = good.clone();
    priority.priority = 12;
    for (body, expected) in [
        (unpriced, "model_unpriced"),
        (unknown, "unknown_task"),
        (twice, "duplicate_task"),
        (none, "no_tasks"),
        (stranger, "unknown_agent"),
        (priority, "invalid_request"),
    ] {
        let refused: Result<Evaluation, _> = stage.call(Method::POST, "/v1/evaluations", Some(&body)).await;
        assert_eq!(code(refused), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_without_its_value_is_refused_at_submit() {
    let Some(stage) = stage().await else { return };
    let config = "[environment.env]\nTOKEN = '${MY_TOKEN}'\nMODE = '${MODE:-fast}'";
    let digest = stage.upload(task_archive("templates", config)).await;
    let new = NewTask {
        digest,
        name: "templates".to_owned(),
    };
    let _: Task = stage.call(Method::POST, "/v1/tasks", Some(&new)).await.unwrap();
    let mut body = stage.submission(1).await;
    body.tasks = vec![digest];
    let refused: Result<Evaluation, Error> = stage.call(Method::POST, "/v1/evaluations", Some(&body)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Some("value_missing"));
    assert!(refused.to_string().contains("MY_TOKEN"), "{refused}");
    body.values.insert("MY_TOKEN".to_owned(), "x".to_owned());
    stage.submit(&body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_without_doubles() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(7).await).await;
    let (mut path, mut seen) = (
        format!("/v1/runs?evaluation={}&limit=3", evaluation.id),
        Vec::new(),
    );
    loop {
        let page: Page<Run> = stage.get(&path).await.unwrap();
        seen.extend(page.items.iter().map(|run| run.repeat));
        let Some(next) = page.next else { break };
        path = format!("/v1/runs?evaluation={}&limit=3&cursor={next}", evaluation.id);
    }
    assert_eq!(seen.len(), 7);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_a_problem_body() {
    let Some(stage) = stage().await else { return };
    let version: Version = stage.get("/version").await.unwrap();
    assert_eq!(version.wire, assay_core::wire::WIRE);
    for (method, path, expected) in [
        (Method::GET, "/nowhere", "not_found"),
        (Method::DELETE, "/v1/tasks", "method_not_allowed"),
        (Method::GET, "/v1/runs/not-an-id", "not_found"),
        (Method::GET, "/v1/runs?limit=many", "invalid_request"),
    ] {
        let refused: Result<serde_json::Value, _> = stage.call(method, path, None::<&()>).await;
        assert_eq!(code(refused), expected, "{path}");
    }
    let body = serde_json::json!({ "name": "x", "contract": "magic" });
    let refused: Result<serde_json::Value, Error> = stage.call(Method::POST, "/v1/agents", Some(&body)).await;
    let Err(Error::Problem { problem, .. }) = refused else {
        panic!("no problem")
    };
    assert!(problem.detail.contains("contract"), "{}", problem.detail);
    assert!(problem.request_id.is_some());
    let huge = serde_json::json!({ "name": "x".repeat(3 << 20), "contract": "nop" });
    let refused: Result<serde_json::Value, _> = stage.call(Method::POST, "/v1/agents", Some(&huge)).await;
    assert_eq!(code(refused), "body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_is_in_the_audit() {
    let Some(stage) = stage().await else { return };
    let evaluation = stage.submit(&stage.submission(1).await).await;
    let path = format!("/v1/evaluations/{}/cancel", evaluation.id);
    let _: Evaluation = stage.call(Method::POST, &path, None::<&()>).await.unwrap();
    let actions: Vec<String> = sqlx::query_scalar("SELECT action FROM audit ORDER BY id")
        .fetch_all(&stage.pool)
        .await
        .unwrap();
    for action in [
        "key.create",
        "task.create",
        "agent.create",
        "evaluation.submit",
        "evaluation.cancel",
    ] {
        assert!(
            actions.iter().any(|found| found == action),
            "{action} is not in {actions:?}"
        );
    }
}
