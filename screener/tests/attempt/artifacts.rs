//! What is kept of an agent's work, and what a verifier elsewhere gets of it.

use assay_core::{agent::Contract, cause::Cause};

use super::{
    DOCKERFILE,
    world::{Files, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_artifact_leaves_out_another_keeps_for_the_verifier() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml = "schema_version = '1.4'\n\
                artifacts = [{ source = '/app/a', exclude = ['*.json'], destination = 'first' }, 'b']\n\
                [verifier]\nenvironment_mode = 'separate'\n";
    let files = Files::from([
        ("task.toml", toml),
        ("instruction.md", "Write files"),
        ("environment/Dockerfile", DOCKERFILE),
        (
            "solution/solve.sh",
            "#!/bin/bash\nmkdir a b /logs/artifacts/c\ntouch {a,b,/logs/artifacts/c}/{x.json,y}\n",
        ),
        (
            "tests/test.sh",
            "find /app /logs -type f | sort\necho 1 > /logs/verifier/reward.txt\n",
        ),
    ]);
    let report = world.run(world.assignment(Contract::Oracle, &files)).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(1.0)),
        "{}",
        report.detail
    );
    assert_eq!(
        world.platform.output("verify/stdout"),
        "/app/a/y\n/app/b/x.json\n/app/b/y\n/logs/artifacts/c/x.json\n/logs/artifacts/c/y\n"
    );
    let mut kept = world.platform.files_of("artifacts.tar");
    kept.sort();
    assert_eq!(
        kept,
        [
            "app/b/x.json",
            "app/b/y",
            "first/y",
            "logs/artifacts/c/x.json",
            "logs/artifacts/c/y",
            "manifest.json"
        ]
    );
}

/// Else an agent could have a run that it has lost not counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_leaves_more_than_can_be_carried_has_scored_nothing() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml =
        "schema_version = '1.4'\nartifacts = ['/app/many']\n[verifier]\nenvironment_mode = 'separate'\n";
    let files = Files::from([
        ("task.toml", toml),
        ("instruction.md", "Write files"),
        ("environment/Dockerfile", DOCKERFILE),
        (
            "solution/solve.sh",
            "#!/bin/bash\nmkdir many && cd many && seq 100001 | xargs touch\n",
        ),
        ("tests/test.sh", "echo 1 > /logs/verifier/reward.txt\n"),
    ]);
    let report = world.run(world.assignment(Contract::Oracle, &files)).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::ArtifactsTooBig, Some(0.0)),
        "{}",
        report.detail
    );
    assert!(
        report.detail.contains("more than 100000 entries"),
        "{}",
        report.detail
    );
}
