//! Dockerfiles. Whatever they do is the task's fault and never a score.

use assay_core::{cause::Cause, control::runner::Stream, phase::Phase};
use assay_tests::installation::{Installation, files::task};

use crate::home::expect;

pub async fn fails(home: &Installation) {
    let files = task().with(
        "environment/Dockerfile",
        "FROM debian:bookworm-slim\nRUN echo seen-$((1 + 1)) && exit 3\n",
    );
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::ImageBuildFailed, None, &["exit 3", "seen-2"]);
    let log = home.output(&ended, Phase::Prepare, Stream::Stdout).await.unwrap();
    assert!(String::from_utf8_lossy(&log).contains("seen-2"));
}

pub async fn never_ends(home: &Installation) {
    let files = task()
        .with(
            "task.toml",
            "schema_version = \"1.4\"\n[environment]\nbuild_timeout_sec = 5\n",
        )
        .with(
            "environment/Dockerfile",
            "FROM debian:bookworm-slim\nRUN sleep 600\n",
        );
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::ImageBuildFailed, None, &["ran past its time"]);
}

/// Slowly, so that nobody else on this machine suffers; the daemon with a small disk of its own is filled at full speed.
pub async fn fills_the_disk(home: &Installation) {
    let files = task()
        .with(
            "task.toml",
            "schema_version = \"1.4\"\n[environment]\nstorage_mb = 256\nbuild_timeout_sec = 120\n",
        )
        .with(
            "environment/Dockerfile",
            "FROM debian:bookworm-slim\nRUN while :; do head -c 16777216 /dev/zero >> /big; sleep 0.1; done\n",
        );
    let ended = home.run(&files, None).await.unwrap();
    let words = [
        "a step of the Dockerfile wrote",
        "environment.storage_mb allows 256",
    ];
    expect(&ended, Cause::ImageBuildFailed, None, &words);
}
