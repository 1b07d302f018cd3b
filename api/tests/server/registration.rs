//! What is taken and what is refused: uploads, tasks, agents.

use assay_core::{
    agent::Contract,
    digest::Digest,
    wire::people::{Agent, NewAgent, NewTask, NewUpload, Task, Upload},
};
use assay_runtime::client::Error;
use http::Method;

use crate::stage::{Stage, archive_of, code, stage, task_archive};

async fn register(stage: &Stage, digest: Digest) -> Result<Task, Error> {
    let new = NewTask {
        digest,
        name: "folder".to_owned(),
    };
    stage.call(Method::POST, "/v1/tasks", Some(&new)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_task_is_refused_by_a_code_and_a_sentence() {
    let Some(stage) = stage().await else { return };
    let cases = [
        (b"no archive".to_vec(), "archive_invalid", "tar.gz"),
        (archive_of(&[("readme", "x")]), "task_invalid", "task.toml"),
        (task_archive("x", "[agent\n"), "task_invalid", "line"),
        (
            task_archive("x", "[agent]\ntimeout_sec = 'soon'"),
            "task_invalid",
            "agent.timeout_sec",
        ),
        (
            task_archive("x", "[environment]\nos = 'windows'"),
            "task_unsupported",
            "environment.os",
        ),
    ];
    for (bytes, expected, word) in cases {
        let digest = stage.upload(bytes).await;
        let refused = register(&stage, digest).await.unwrap_err();
        assert_eq!(refused.code(), Some(expected), "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_they_are_called_are_refused() {
    let Some(stage) = stage().await else { return };
    let (right, wrong) = (task_archive("right", ""), task_archive("wrong", ""));
    let digest = Digest::of(&right);
    assert_eq!(code(register(&stage, digest).await), "not_uploaded");
    stage.put_as(digest, wrong).await;
    assert_eq!(code(register(&stage, digest).await), "digest_mismatch");
    stage.put_as(digest, right).await;
    assert_eq!(register(&stage, digest).await.unwrap().name, "folder");
    let new = NewUpload {
        digest,
        size_bytes: 5,
    };
    let again: Upload = stage.call(Method::POST, "/v1/uploads", Some(&new)).await.unwrap();
    assert_eq!(again.url, None, "it is there already");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_above_the_cap_is_refused() {
    let Some(stage) = stage().await else { return };
    let new = NewUpload {
        digest: Digest::of("x"),
        size_bytes: 1 << 40,
    };
    let refused: Result<Upload, _> = stage.call(Method::POST, "/v1/uploads", Some(&new)).await;
    assert_eq!(code(refused), "archive_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_archive_is_kept_in_parts() {
    let Some(stage) = stage().await else { return };
    // Text that does not pack well.
    let noise: String = (0u64..400_000)
        .map(|n| Digest::of(n.to_le_bytes()).hex())
        .collect();
    let bytes = archive_of(&[
        ("agent.toml", "name = 'big'\ncontract = 'patch'"),
        ("agent.py", "def agent_main(input): return ''"),
        ("noise", &noise),
    ]);
    assert!(bytes.len() > 9 << 20, "{}", bytes.len());
    let digest = stage.upload(bytes).await;
    let new = NewAgent {
        name: "big".to_owned(),
        contract: Contract::Patch,
        digest: Some(digest),
    };
    let agent: Agent = stage.call(Method::POST, "/v1/agents", Some(&new)).await.unwrap();
    assert_eq!(agent.digest, Some(digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_agent_is_refused() {
    let Some(stage) = stage().await else { return };
    let cases = [
        (archive_of(&[("x", "y")]), "agent.toml is missing"),
        (
            archive_of(&[("agent.toml", "name = 'x'\ncontract = 'patch'")]),
            "agent.py is missing",
        ),
        (
            archive_of(&[("agent.toml", "name = 'x'\ncontract = 'command'\nrun = ['x']")]),
            "was asked for",
        ),
    ];
    for (bytes, word) in cases {
        let digest = Some(stage.upload(bytes).await);
        let new = NewAgent {
            name: "x".to_owned(),
            contract: Contract::Patch,
            digest,
        };
        let refused: Result<Agent, _> = stage.call(Method::POST, "/v1/agents", Some(&new)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Some("agent_invalid"));
        assert!(refused.to_string().contains(word), "{refused}");
    }
}
