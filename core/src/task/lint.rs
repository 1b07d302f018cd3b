//! What is allowed in a task and still worth a word to its author. Reads texts; runs nothing.

mod artifacts;
mod dockerfile;
mod python;
mod scripts;

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
        self.solutions(&mut found);
        self.image(&mut found);
        artifacts::check(&self.config, &mut found);
        dockerfile::check(files, &mut found);
        scripts::check(files, &mut found);
        python::check_requirements(files, &mut found);
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

    fn solutions(&self, found: &mut Vec<Warning>) {
        for step in self.steps.iter().filter(|step| step.solution.is_none()) {
            let folder = step
                .name
                .as_ref()
                .map_or_else(|| "solution".to_owned(), |name| format!("steps/{name}/solution"));
            let message = format!("{folder}/solve.sh is missing: nothing shows that the task can be solved");
            warn(found, "missing-solution", message);
        }
    }

    fn image(&self, found: &mut Vec<Warning>) {
        let image = self.config.environment.docker_image.as_deref();
        if let Some(image) = image.filter(|image| !self.has_dockerfile && !dockerfile::is_pinned(image)) {
            let message = format!("environment.docker_image: {image} may change under its name");
            warn(found, "unpinned-image", message);
        }
    }
}

fn warn(found: &mut Vec<Warning>, rule: &'static str, message: impl Into<String>) {
    found.push(Warning {
        rule,
        message: message.into(),
    });
}

const KNOWN_SCHEMAS: &[&str] = &["1.0", "1.1", "1.2", "1.3", "1.4"];

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
            "missing-build-source",
            "missing-solution",
            "root-agent",
            "shared-verifier",
            "unknown-config-field",
            "unknown-schema-version",
            "unpinned-image",
            "unpinned-python-dependency",
            "verifier-network-download",
            "verifier-runtime-install",
        ];
        assert_eq!(rules, want, "{warnings:?}");
    }
}
