//! Verifiers. Whatever they do wrong is the task's fault and never a score.

use assay_core::cause::Cause;
use assay_tests::installation::{Ended, Files, Installation, files::task};
use futures_util::future::join_all;

use crate::home::expect;

pub async fn leaves_no_reward(home: &Installation) {
    let ended = verified_by(home, "exit 7").await;
    let words = [
        "neither reward.json nor reward.txt in /logs/verifier",
        "it exited with code 7",
    ];
    expect(&ended, Cause::RewardMissing, None, &words);
}

pub async fn leaves_a_reward_that_is_none(home: &Installation) {
    let cases = [
        ("txt", "", "reward.txt is empty"),
        ("txt", "NaN", "reward.txt: reward is not finite"),
        ("txt", "1e309", "reward.txt: reward is not finite"),
        (
            "json",
            r#"{"reward": 1e309}"#,
            "reward.json: a number is not finite",
        ),
        ("json", r#"{"reward": NaN}"#, "reward.json is no JSON"),
        (
            "json",
            "[1]",
            "reward.json holds a list; want a flat object of numbers",
        ),
    ];
    let runs = cases.iter().map(|(end, text, _)| async move {
        let leave = format!("printf '%s' '{text}' > /logs/verifier/reward.{end}");
        verified_by(home, &leave).await
    });
    for (ended, (_, _, words)) in join_all(runs).await.iter().zip(cases) {
        expect(ended, Cause::RewardInvalid, None, &[words]);
    }
}

/// That is allowed: without a key `reward` the mean counts.
pub async fn leaves_two_keys(home: &Installation) {
    let ended = verified_by(home, r#"echo '{"a": 1, "b": 0.5}' > /logs/verifier/reward.json"#).await;
    expect(&ended, Cause::Completed, Some(0.75), &[]);
}

pub async fn never_ends(home: &Installation) {
    let files = script("sleep 1000").with(
        "task.toml",
        "schema_version = \"1.4\"\n[verifier]\ntimeout_sec = 1\n",
    );
    let ended = home.run(&files, None).await.unwrap();
    let words = ["the verifier ran past its deadline"];
    expect(&ended, Cause::VerifierTimeout, None, &words);
}

async fn verified_by(home: &Installation, what: &str) -> Ended {
    home.run(&script(what), None).await.unwrap()
}

fn script(what: &str) -> Files {
    task().with("tests/test.sh", format!("#!/bin/sh\n{what}\n"))
}
