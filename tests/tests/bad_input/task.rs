//! Tasks that cannot be read, and one that can in spite of a typing error.

use assay_core::cause::Cause;
use assay_tests::installation::{Installation, files::task};

use crate::home::{expect, refused};

pub async fn syntax_error(home: &Installation) {
    let files = task().with(
        "task.toml",
        "schema_version = \"1.4\"\n[agent]\ntimeout_sec = = 5\n",
    );
    let words = ["task.toml: line 3, column 15"];
    refused(home.register_task(&files).await, "task_invalid", &words);
}

pub async fn wrong_type(home: &Installation) {
    let files = task().with(
        "task.toml",
        "schema_version = \"1.4\"\n[agent]\ntimeout_sec = 'soon'\n",
    );
    let words = [
        "task.toml: agent.timeout_sec: want a number, found string",
        "line 3, column 15",
    ];
    refused(home.register_task(&files).await, "task_invalid", &words);
}

/// It is kept and warned about: the task runs.
pub async fn unknown_key(home: &Installation) {
    let files = task().with(
        "task.toml",
        "schema_version = \"1.4\"\n[agent]\ntimeuot_sec = 60\n",
    );
    let warnings = home.register_task(&files).await.unwrap().warnings;
    let told = warnings.iter().find(|warning| {
        warning.contains("agent.timeuot_sec")
            && warning.contains("line 3, column 15")
            && warning.contains("did you mean `timeout_sec`?")
    });
    assert!(told.is_some(), "{warnings:?}");
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

pub async fn no_test_script(home: &Installation) {
    let files = task().without("tests/test.sh");
    let words = ["tests/test.sh is missing: it is the verifier's script"];
    refused(home.register_task(&files).await, "task_invalid", &words);
}
