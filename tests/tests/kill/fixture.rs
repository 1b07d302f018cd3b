//! One task and one agent for every cell of the matrix. A file in the image says which phase waits.

use std::path::Path;

use assay_core::{digest::Digest, id::AgentId, phase::Phase};
use assay_tests::processes::MODEL;

use super::stage::Cell;

/// Waits for the file `/go` if it is this phase's turn, and counts aloud meanwhile.
const HOLD: &str = r#"#!/bin/sh
read -r turn < /turn
[ "$turn" = "$1" ] || exit 0
n=0
until [ -e /go ]; do n=$((n + 1)); echo "line $n"; sleep 0.05; done
echo "end $n"
"#;

const TASK: &str = r#"schema_version = "1.4"
artifacts = ["/app/answer.txt"]
[agent]
timeout_sec = 300
[verifier]
timeout_sec = 300
[[verifier.collect]]
command = "hold collect"
timeout_sec = 300
[environment]
build_timeout_sec = 300
[environment.healthcheck]
command = "[ -e /go ] || ! grep -q health /turn"
interval_sec = 0.2
timeout_sec = 10
retries = 10000
"#;

const APART: &str = "environment_mode = 'separate'\n";

const TEST: &str = "#!/bin/sh\nhold verify\nif [ \"$(cat answer.txt)\" = 42 ]; then echo 1; else echo 0; fi > \
                    /logs/verifier/reward.txt\n";

const AGENT: &str = "name = 'asker'\ncontract = 'command'\ninstall = ['hold', 'setup']\n\
                     run = ['bash', '/installed-agent/agent.sh']\n";

/// Asks the model over its base URL with nothing but a shell, then waits, then does the task.
fn agent() -> String {
    format!(
        r#"set -eu
body='{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}],"max_tokens":50}}'
exec 3<>/dev/tcp/127.0.0.1/15088
printf 'POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:15088\r\nauthorization: Bearer %s\r\n' "$OPENAI_API_KEY" >&3
printf 'content-type: application/json\r\ncontent-length: %s\r\nconnection: close\r\n\r\n%s' "${{#body}}" "$body" >&3
read -r answer <&3
case $answer in *" 200 "*) ;; *) echo "$answer" >&2; exit 1 ;; esac
cat <&3 >/dev/null
hold agent
echo 42 > answer.txt
"#
    )
}

/// The Dockerfile. Only `prepare` has a build that waits and then needs its proxy; `round` keeps it out of the cache.
fn dockerfile(cell: Cell, round: &str) -> String {
    let mut text = "FROM debian:bookworm-slim\nCOPY hold /usr/local/bin/hold\nRUN chmod 755 /usr/local/bin/hold\nWORKDIR /app\n".to_owned();
    if cell.phase == Phase::Prepare {
        text += &format!(
            "RUN echo prepare > /turn; echo {round}; hold prepare && bash -c '</dev/tcp/127.0.0.1/15080'\n"
        );
    } else {
        // Two cells of one task would be one task.
        let half = if cell.half { " half" } else { "" };
        text += &format!("RUN echo {}{half} > /turn\n", cell.phase);
    }
    text
}

/// Writes the task of a cell.
pub fn write_task(folder: &Path, cell: Cell, round: &str) -> std::io::Result<()> {
    let apart = if cell.apart { APART } else { "" };
    write(
        folder,
        "task.toml",
        &TASK.replacen("[verifier]\n", &format!("[verifier]\n{apart}"), 1),
    )?;
    write(folder, "instruction.md", "Write 42 into answer.txt")?;
    write(folder, "environment/Dockerfile", &dockerfile(cell, round))?;
    write(folder, "environment/hold", HOLD)?;
    write(folder, "tests/test.sh", TEST)
}

/// Writes the agent.
pub fn write_agent(folder: &Path) -> std::io::Result<()> {
    write(folder, "agent.toml", AGENT)?;
    write(folder, "agent.sh", &agent())
}

fn write(folder: &Path, path: &str, text: &str) -> std::io::Result<()> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}

/// What is submitted.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The task.
    pub task: Digest,
    /// The agent.
    pub agent: AgentId,
    /// Where it waits.
    pub cell: Cell,
}
