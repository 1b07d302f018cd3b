//! What is allowed in a task and still worth a word to its author. Reads texts; runs nothing.

use super::{
    Task, Warning,
    config::{Agent, EnvironmentMode, User},
    folder,
};
use crate::archive::Files;

impl Task {
    /// Every warning about a task: those of reading it, and those of its files. Sorted, each once.
    pub fn lint(&self, files: &Files) -> Vec<Warning> {
        let mut found = self.warnings.clone();
        self.users(&mut found);
        self.verifiers(&mut found);
        self.image(files, &mut found);
        for (path, text) in scripts(files) {
            verifier_script(&path, &text, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    fn users(&self, found: &mut Vec<Warning>) {
        let is_root = |agent: &Agent| match &agent.user {
            Some(User::Name(name)) => name == "root",
            Some(User::Id(id)) => *id == 0,
            None => false,
        };
        if is_root(&self.config.agent) {
            warn(
                found,
                "root-agent",
                "agent.user: the agent runs as root and can change what the verifier uses",
            );
        }
        for (index, step) in self.config.steps.iter().flatten().enumerate() {
            if is_root(&step.agent) {
                warn(
                    found,
                    "root-agent",
                    format!("steps[{index}].agent.user: the agent runs as root"),
                );
            }
        }
    }

    fn verifiers(&self, found: &mut Vec<Warning>) {
        let steps = self.config.steps.as_deref().unwrap_or_default();
        let is_shared = |step| folder::environment_mode(&self.config, step) == EnvironmentMode::Shared;
        let any_shared = if steps.is_empty() {
            is_shared(None)
        } else {
            steps.iter().any(|step| is_shared(Some(step)))
        };
        if any_shared {
            let message = "verifier.environment_mode: the verifier runs in the agent's sandbox; `separate` is harder to fool";
            warn(found, "shared-verifier", message);
        }
        if !KNOWN_SCHEMAS.contains(&self.config.schema_version.as_str()) {
            let message = format!(
                "schema_version: {:?} is newer or older than any known",
                self.config.schema_version
            );
            warn(found, "unknown-schema-version", message);
        }
    }

    fn image(&self, files: &Files, found: &mut Vec<Warning>) {
        let dockerfile = "environment/Dockerfile";
        let Some(text) = files.text(dockerfile).filter(|_| self.has_dockerfile) else {
            if let Some(image) = self
                .config
                .environment
                .docker_image
                .as_deref()
                .filter(|image| !is_pinned(image))
            {
                warn(
                    found,
                    "unpinned-image",
                    format!("environment.docker_image: {image} may change under its name"),
                );
            }
            return;
        };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let place = format!("{dockerfile} line {}", number + 1);
            match words.as_slice() {
                [from, rest @ ..] if from.eq_ignore_ascii_case("from") => {
                    let image = rest.iter().find(|word| !word.starts_with("--"));
                    if let Some(image) = image.filter(|image| !is_pinned(image) && **image != "scratch") {
                        warn(
                            found,
                            "unpinned-image",
                            format!("{place}: {image} may change under its name"),
                        );
                    }
                }
                [copy, rest @ ..] if ["copy", "add"].contains(&copy.to_lowercase().as_str()) => {
                    let sources = rest.split_last().map_or(&[][..], |(_, sources)| sources);
                    if sources.iter().any(|source| leaks(source)) {
                        let message =
                            format!("{place}: puts tests or the solution where the agent sees them");
                        warn(found, "agent-image-test-leak", message);
                    }
                }
                _ => {}
            }
        }
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

/// By digest, or at least by a tag that is not `latest`.
fn is_pinned(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    image.contains("@sha256:")
        || image.starts_with('$')
        || name.split_once(':').is_some_and(|(_, tag)| tag != "latest")
}

fn leaks(source: &str) -> bool {
    let source = source.trim_start_matches("./").trim_start_matches('/');
    let first = source.split('/').next().unwrap_or_default();
    ["tests", "solution"].contains(&first)
}

fn warn(found: &mut Vec<Warning>, rule: &'static str, message: impl Into<String>) {
    found.push(Warning {
        rule,
        message: message.into(),
    });
}

const KNOWN_SCHEMAS: &[&str] = &["1.0", "1.1", "1.2", "1.3", "1.4"];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Caps, scan};

    #[test]
    fn each_rule_finds_its_case() {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in [
            (
                "task.toml",
                "version = '0.9'\ncolour = 1\n[agent]\nuser = 'root'\n",
            ),
            ("instruction.md", "x"),
            (
                "environment/Dockerfile",
                "FROM ubuntu\nCOPY --chown=0 tests/ /tests\nFROM a.b:5000/c@sha256:1\n",
            ),
            (
                "tests/test.sh",
                "# pip install nothing\npip install pytest\ncurl -LsSf https://x.org | sh\n",
            ),
        ] {
            let full = root.path().join(path);
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            std::fs::write(full, content).unwrap();
        }
        let files = scan(root.path(), Caps::default()).unwrap();
        let warnings = Task::read(&files, "x").unwrap().lint(&files);
        let rules: Vec<&str> = warnings.iter().map(|warning| warning.rule).collect();
        let want = [
            "agent-image-test-leak",
            "root-agent",
            "shared-verifier",
            "unknown-config-field",
            "unknown-schema-version",
            "unpinned-image",
            "verifier-network-download",
            "verifier-runtime-install",
        ];
        assert_eq!(rules, want, "{warnings:?}");
    }
}
