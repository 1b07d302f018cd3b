//! Bakes the commit into every program: `GIT_COMMIT`, then `git rev-parse HEAD`, then our own reader of `.git`.

use std::{env, path::Path, process::Command};

#[path = "src/version/git.rs"]
pub mod git;

fn main() {
    println!("cargo:rerun-if-env-changed=GIT_COMMIT");
    let folder = variable("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".to_owned());
    let folder = Path::new(&folder);
    if let Some(head) = git::head_file(folder) {
        println!("cargo:rerun-if-changed={}", head.display());
    }
    let commit = given()
        .or_else(|| asked(folder))
        .or_else(|| git::commit(folder))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=ASSAY_COMMIT={commit}");
}

fn given() -> Option<String> {
    variable("GIT_COMMIT").filter(|commit| git::is_commit(commit))
}

fn asked(folder: &Path) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["rev-parse", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    git::is_commit(&commit).then_some(commit)
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}
