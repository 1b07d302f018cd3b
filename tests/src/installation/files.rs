//! Folders of tasks and agents, written down in a few lines.

use std::{collections::BTreeMap, path::Path};

/// The files of a folder by their names in it.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// With one more file, or another content of it.
    pub fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.to_owned(), content.into());
        self
    }

    /// Without a file.
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(path);
        self
    }

    /// The text of a file; empty where there is none.
    pub fn text(&self, path: &str) -> String {
        let content = self.0.get(path).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(content).into_owned()
    }

    /// Writes the folder.
    pub fn store(&self, folder: &Path) -> std::io::Result<()> {
        for (path, content) in &self.0 {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, content)?;
        }
        Ok(())
    }
}

/// A good task: the answer 42 in `answer.txt`. Its solution scores 1, nothing scores 0.
pub fn task() -> Files {
    Files::default()
        .with("task.toml", TASK)
        .with("instruction.md", "Write 42 into answer.txt")
        .with("environment/Dockerfile", dockerfile("debian:bookworm-slim"))
        .with("tests/test.sh", TEST)
        .with("solution/solve.sh", "#!/bin/sh\necho 42 > answer.txt\n")
}

/// The good task with Python, git and a file of known content in its image.
pub fn python_task() -> Files {
    task().with("environment/Dockerfile", dockerfile("python:3.12-slim"))
}

/// The Dockerfile of the good task on some base.
pub fn dockerfile(base: &str) -> String {
    format!("FROM {base}\nWORKDIR /app\nRUN echo known > known.txt\n")
}

/// A `command` agent that runs a shell script in the task's working directory.
pub fn shell_agent(script: &str) -> Files {
    Files::default()
        .with(
            "agent.toml",
            "name = 'shell'\ncontract = 'command'\nrun = ['sh', '/installed-agent/agent.sh']\n",
        )
        .with("agent.sh", script)
}

/// A `command` agent that is one Python program.
pub fn python_agent(program: &str) -> Files {
    Files::default()
        .with(
            "agent.toml",
            "name = 'python'\ncontract = 'command'\nrun = ['python3', '/installed-agent/agent.py']\n",
        )
        .with("agent.py", program)
}

/// A `patch` agent whose `agent.py` is this.
pub fn patch_agent(program: &str) -> Files {
    Files::default()
        .with("agent.toml", "name = 'patch'\ncontract = 'patch'\n")
        .with("agent.py", program)
}

/// No test is about these deadlines: they guard against hanging alone.
const TASK: &str = "schema_version = \"1.4\"\n[agent]\ntimeout_sec = 300\n[verifier]\ntimeout_sec = 300\n";
const TEST: &str = "#!/bin/sh\nif [ \"$(cat answer.txt 2>/dev/null)\" = 42 ]; then echo 1; else echo 0; fi > \
                    /logs/verifier/reward.txt\n";
