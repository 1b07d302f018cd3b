//! Agent bundles and patches that cannot be used.

use assay_core::{cause::Cause, digest::Digest};
use assay_tests::installation::{
    Files, Installation, MAX_ARCHIVE_BYTES,
    files::{patch_agent, python_task, task},
};
use futures_util::future::join_all;

use crate::home::{expect, refused};

pub async fn is_empty(home: &Installation) {
    let words = ["agent.toml is missing"];
    refused(
        home.register_agent(&Files::default()).await,
        "agent_invalid",
        &words,
    );
}

pub async fn is_too_big(home: &Installation) {
    // Digests do not pack.
    let noise: Vec<u8> = (0..=MAX_ARCHIVE_BYTES / 32)
        .flat_map(|number: u64| *Digest::of(number.to_le_bytes()).bytes())
        .collect();
    let files = patch_agent("def agent_main(input): return ''\n").with("noise", noise);
    let cap = MAX_ARCHIVE_BYTES.to_string();
    refused(home.register_agent(&files).await, "archive_too_large", &[&cap]);
}

pub async fn has_no_function(home: &Installation) {
    let agent = patch_agent("def main(input):\n    return ''\n");
    let ended = home.run(&python_task(), Some(&agent)).await.unwrap();
    let words = ["agent.py: there is no function agent_main"];
    expect(&ended, Cause::AgentInvalid, Some(0.0), &words);
}

pub async fn has_a_syntax_error(home: &Installation) {
    let agent = patch_agent("def agent_main(input):\n    return (\n");
    let ended = home.run(&python_task(), Some(&agent)).await.unwrap();
    expect(
        &ended,
        Cause::AgentInvalid,
        Some(0.0),
        &["agent.py: line 2, column"],
    );
}

/// The image is the task's, so this is no zero of the agent's.
pub async fn needs_python_that_is_not_there(home: &Installation) {
    let agent = patch_agent("def agent_main(input):\n    return ''\n");
    let ended = home.run(&task(), Some(&agent)).await.unwrap();
    let words = ["a patch agent needs python3 in the task's image"];
    expect(&ended, Cause::TaskInvalid, None, &words);
}

pub async fn patches_that_cannot_be_used(home: &Installation) {
    let patches = [
        (
            "--- a/known.txt\n+++ b/known.txt\n@@ -1 +1 @@\n-never there\n+new\n",
            vec!["does not apply to a clean tree", "known.txt:1"],
        ),
        (
            "diff --git a/known.txt b/known.txt\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZQz00IC20000\n",
            vec!["line 3: binary changes"],
        ),
        (
            "--- /dev/null\n+++ b/.git/hooks/post-checkout\n@@ -0,0 +1 @@\n+evil\n",
            vec!["line 2:", ".git/hooks/post-checkout", "belongs to git"],
        ),
        (
            "--- /dev/null\n+++ b/../../etc/evil\n@@ -0,0 +1 @@\n+evil\n",
            vec!["line 2:", "../../etc/evil", "leaves the tree"],
        ),
    ];
    let runs = patches
        .iter()
        .map(|(diff, _)| async { home.run(&python_task(), Some(&returning(diff))).await.unwrap() });
    for (ended, (_, words)) in join_all(runs).await.iter().zip(&patches) {
        expect(ended, Cause::PatchInvalid, Some(0.0), words);
    }
    let nothing = home.run(&python_task(), Some(&returning(""))).await.unwrap();
    expect(
        &nothing,
        Cause::NoPatch,
        Some(0.0),
        &["the agent returned no diff"],
    );
}

/// So that the rows above fail for their reason and for no other.
pub async fn a_good_patch(home: &Installation) {
    let diff = "--- /dev/null\n+++ b/answer.txt\n@@ -0,0 +1 @@\n+42\n--- a/known.txt\n+++ b/known.txt\n@@ -1 +1 @@\n-known\n+new\n";
    let ended = home.run(&python_task(), Some(&returning(diff))).await.unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

fn returning(diff: &str) -> Files {
    patch_agent(&format!("def agent_main(input):\n    return {diff:?}\n"))
}
