//! Dockerfiles. Whatever they do is the task's fault and never a score.

use assay_core::{
    cause::Cause,
    control::runner::Stream,
    phase::Phase,
    policy::Policy,
    wire::people::{Run, RunState},
};
use assay_tests::installation::{Installation, Setup, files::task};

use crate::home::{expect, oracle_scores_one};

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

/// Known before anything is built, wherever the Dockerfile names it.
pub async fn starts_from_what_the_policy_forbids(home: &Installation) {
    let dockerfile = "FROM debian:bookworm-slim\nCOPY --from=evil.example.com/tools:1 /bin/tool /bin/\n";
    let files = task().with("environment/Dockerfile", dockerfile);
    let policy = Policy::parse("[images]\nallow = ['docker.io/library/*']\n").unwrap();
    let ended = home.run_under(&files, None, policy).await.unwrap();
    expect(
        &ended,
        Cause::TaskInvalid,
        None,
        &["evil.example.com/tools:1", "images.allow"],
    );
    let log = home.output(&ended, Phase::Prepare, Stream::Stdout).await.unwrap();
    assert!(
        log.is_empty(),
        "nothing was built: {}",
        String::from_utf8_lossy(&log)
    );
}

/// Podman 4 lets a step go on whose build is given up. This one is gone before anybody looks what suites left.
pub async fn never_ends(home: &Installation) {
    let files = task()
        .with(
            "task.toml",
            "schema_version = \"1.4\"\n[environment]\nbuild_timeout_sec = 5\n",
        )
        .with(
            "environment/Dockerfile",
            "FROM debian:bookworm-slim\nRUN sleep 60\n",
        );
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::ImageBuildFailed, None, &["ran past its time"]);
}

/// A run whose image is being built lends its slot: with one slot in all, the next run ends meanwhile.
pub async fn holds_up_nobody(home: &Installation) {
    let setup = Setup {
        socket: home.socket().to_owned(),
        slots: 1,
        ..Setup::from_env("ASSAY_TEST_DOCKER").unwrap()
    };
    let own = Installation::start(setup).await.unwrap();
    let slow = task().with(
        "environment/Dockerfile",
        "FROM debian:bookworm-slim\nRUN sleep 600\n",
    );
    let order = own.order(&slow, None, Policy::default()).await.unwrap();
    let waits = own.submit(&order).await.unwrap();
    let in_prepare = |run: &Run| run.phase == Some(Phase::Prepare);
    let run = own.wait_for(&waits, in_prepare).await.unwrap();
    oracle_scores_one(&own).await;
    assert!(in_prepare(&own.wait_for(&waits, |_| true).await.unwrap()));
    own.api.cancel_run(run.id).await.unwrap();
    let ended = own.over(&waits).await.unwrap();
    assert_eq!(ended.run.state, RunState::Cancelled, "{:#?}", ended.attempts);
    own.stop().await.unwrap();
}

/// Slowly, so that nobody else on this machine suffers; the daemon with a small disk of its own is filled at full speed.
pub async fn fills_the_disk(home: &Installation) {
    let files = task()
        .with(
            "task.toml",
            "schema_version = \"1.4\"\n[environment]\nstorage_mb = 256\nbuild_timeout_sec = 600\n",
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
