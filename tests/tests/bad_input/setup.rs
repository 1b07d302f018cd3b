//! What has to go well before an agent begins: healthchecks and a step's `setup.sh`. The task is at fault where it does not.

use assay_core::cause::Cause;
use assay_tests::installation::{
    Files, Installation,
    files::{dockerfile, task},
};

use crate::home::expect;

pub async fn an_environment_that_never_gets_healthy(home: &Installation) {
    let check =
        "[environment.healthcheck]\ncommand = 'echo looked; exit 4'\ninterval_sec = 0.1\nretries = 3\n";
    let toml = task().text("task.toml") + check;
    let ended = home.run(&task().with("task.toml", toml), None).await.unwrap();
    let words = ["the healthcheck failed 3 times"];
    expect(&ended, Cause::HealthcheckFailed, None, &words);
}

pub async fn a_step_that_never_gets_healthy(home: &Installation) {
    let check =
        "[steps.healthcheck]\ncommand = 'sleep 60'\ntimeout_sec = 0.5\ninterval_sec = 0.1\nretries = 2\n";
    let ended = home.run(&step(check), None).await.unwrap();
    let words = ["the healthcheck failed 2 times"];
    expect(&ended, Cause::HealthcheckFailed, None, &words);
}

/// Its healthcheck would hold for ever: nobody asks for it.
pub async fn a_setup_that_fails(home: &Installation) {
    let check = "[steps.healthcheck]\ncommand = 'exit 1'\nretries = 100000\n";
    let files = step(check).with("steps/one/workdir/setup.sh", "echo broken >&2\nexit 3\n");
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::StepSetupFailed, None, &["setup.sh", "code 3"]);
}

fn step(toml: &str) -> Files {
    Files::default()
        .with(
            "task.toml",
            format!("schema_version = '1.4'\n[[steps]]\nname = 'one'\n{toml}"),
        )
        .with("environment/Dockerfile", dockerfile("debian:bookworm-slim"))
        .with("steps/one/instruction.md", "Nobody gets to this")
        .with("steps/one/solution/solve.sh", "#!/bin/sh\n")
        .with(
            "steps/one/tests/test.sh",
            "#!/bin/sh\necho 1 > /logs/verifier/reward.txt\n",
        )
}
