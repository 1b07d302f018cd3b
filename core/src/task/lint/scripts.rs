//! The verifier's scripts: what they install and fetch while they verify.

use super::{Warning, python, warn};
use crate::archive::Files;

pub(super) fn check(files: &Files, found: &mut Vec<Warning>) {
    for (path, text) in scripts(files) {
        verifier_script(&path, &text, found);
        python::check_commands(&path, &text, found);
    }
}

/// The scripts of the verifier.
fn scripts(files: &Files) -> impl Iterator<Item = (String, String)> {
    files
        .entries()
        .keys()
        .filter(|path| {
            path.rsplit_once('.').is_some_and(|(_, end)| end == "sh")
                && (path.starts_with("tests/") || (path.starts_with("steps/") && path.contains("/tests/")))
        })
        .filter_map(|path| Some((path.clone(), files.text(path)?)))
}

fn verifier_script(path: &str, text: &str, found: &mut Vec<Warning>) {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with('#'));
    for (number, line) in lines {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        let place = format!("{path} line {}", number + 1);
        if has(INSTALLS) {
            let message = format!("{place}: installs while it verifies; put it into the image");
            warn(found, "verifier-runtime-install", message);
        }
        if has(DOWNLOADS) {
            let message = format!("{place}: fetches while it verifies; put it into tests/ or the image");
            warn(found, "verifier-network-download", message);
        }
    }
}

const INSTALLS: &[&str] = &[
    "apt-get install",
    "apt install",
    "apk add",
    "pip install",
    "pip3 install",
    "uv pip",
    "uvx ",
    "npm install",
    "npm ci",
    "cargo install",
    "go install",
];
const DOWNLOADS: &[&str] = &["curl http", "curl -", "wget ", "git clone"];
