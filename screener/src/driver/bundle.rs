//! The agent's side of a sandbox: its bundle, the instruction, and what it is told by its environment.

use std::collections::BTreeMap;

use assay_core::{
    agent::Contract,
    egress::port,
    task::config::{McpServer, Transport},
};
use assay_engine::Engine;

use super::{Driver, Halt, live::Live, pack::Item};

/// Where the bundle lies, owned by root.
pub(super) const HOME: &str = "/installed-agent";
/// What a `patch` agent returned.
pub(super) const DIFF: &str = "/logs/agent/patch.diff";
/// Why the bundle of a `patch` agent is none, in a sentence of our own driver.
pub(super) const REFUSAL: &str = "/logs/agent/refusal.txt";

impl<E: Engine> Driver<E> {
    /// Uploads the bundle where there is one.
    pub(super) async fn upload_bundle(&mut self, live: &Live) -> Result<(), Halt> {
        if !self.assignment.contract.has_bundle() {
            return Ok(());
        }
        let mut items = vec![Item::Tree {
            from: self.folder.join("agent"),
            to: String::new(),
        }];
        if self.assignment.contract == Contract::Patch {
            items.push(Item::Text {
                path: PATCH_DRIVER_FILE.to_owned(),
                content: PATCH_DRIVER.as_bytes().to_vec(),
                mode: 0o644,
            });
        }
        self.put(live, HOME, items).await
    }

    /// Uploads what the agent is given to read: instruction, servers of tools, a trajectory to begin with.
    pub(super) async fn upload_instruction(&mut self, live: &Live) -> Result<(), Halt> {
        let text = |path: &str, content: Vec<u8>| Item::Text {
            path: path.to_owned(),
            content,
            mode: 0o644,
        };
        let files = self.step_plan()?.files;
        let mut items = vec![text(INSTRUCTION_FILE, files.instruction.into_bytes())];
        let plan = self.plan()?;
        if !plan.mcp_servers.is_empty() {
            let tools = tools(&plan.mcp_servers).to_string();
            items.push(text(TOOLS_FILE, tools.into_bytes()));
        }
        if let Some(trajectory) = files.trajectory {
            let path = self.task_folder().join(trajectory);
            let content = tokio::fs::read(&path).await.map_err(super::fetch::local(&path))?;
            items.push(text(TRAJECTORY_FILE, content));
        }
        self.put(live, HOME, items).await
    }

    /// What the agent is told.
    pub(super) fn agent_env(&self, seconds_left: u64) -> BTreeMap<String, String> {
        // By the clock that the agent will compare it with: this machine's, not the database's.
        let deadline = self
            .site
            .clock
            .now()
            .as_second()
            .saturating_add_unsigned(seconds_left);
        let mut env = self
            .manifest
            .as_ref()
            .map(|manifest| manifest.env.clone())
            .unwrap_or_default();
        env.extend(model_env());
        if let Some(folder) = self.plan.as_ref().and_then(|plan| plan.skills_dir.clone()) {
            env.insert("ASSAY_SKILLS_DIR".to_owned(), folder);
        }
        if self
            .plan
            .as_ref()
            .is_some_and(|plan| !plan.mcp_servers.is_empty())
        {
            env.insert("ASSAY_MCP_CONFIG".to_owned(), format!("{HOME}/{TOOLS_FILE}"));
        }
        if self.step_plan().is_ok_and(|step| step.files.trajectory.is_some()) {
            env.insert("ASSAY_TRAJECTORY".to_owned(), format!("{HOME}/{TRAJECTORY_FILE}"));
        }
        env.extend(
            [
                ("ASSAY_DEADLINE_UNIX", deadline.to_string()),
                ("ASSAY_BUDGET_USD", self.assignment.budget.to_string()),
                ("ASSAY_RUN_ID", self.assignment.run.to_string()),
                ("ASSAY_INSTRUCTION", format!("{HOME}/{INSTRUCTION_FILE}")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        env
    }

    /// Who the agent is: the task's word, or the image's user.
    pub(super) fn agent_user(&self, live: &Live) -> Option<String> {
        let asked = self.step_plan().ok().and_then(|step| step.agent.user);
        asked.or_else(|| live.image_user())
    }

    /// The command of a `patch` agent.
    pub(super) fn patch_argv() -> Vec<String> {
        ["python3", "-u", &format!("{HOME}/{PATCH_DRIVER_FILE}")]
            .map(str::to_owned)
            .to_vec()
    }
}

/// How models are reached. The keys are placeholders: the proxy holds the real ones.
pub fn model_env() -> BTreeMap<String, String> {
    let api = port::MODEL_API;
    [
        ("OPENAI_BASE_URL", format!("http://127.0.0.1:{api}/v1")),
        ("OPENAI_API_KEY", PLACEHOLDER_KEY.to_owned()),
        ("OPENROUTER_API_KEY", PLACEHOLDER_KEY.to_owned()),
        // Anthropic's software adds the version itself.
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{api}")),
        ("ANTHROPIC_API_KEY", PLACEHOLDER_KEY.to_owned()),
        ("ASSAY_USAGE_URL", format!("http://127.0.0.1:{api}/usage")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The servers of tools in the form that most MCP clients read.
fn tools(servers: &[McpServer]) -> serde_json::Value {
    let server = |server: &McpServer| match server.transport {
        Transport::Stdio => serde_json::json!({ "command": server.command, "args": server.args }),
        Transport::Sse => serde_json::json!({ "type": "sse", "url": server.url }),
        Transport::StreamableHttp => serde_json::json!({ "type": "http", "url": server.url }),
    };
    let servers: serde_json::Map<_, _> = servers
        .iter()
        .map(|one| (one.name.clone(), server(one)))
        .collect();
    serde_json::json!({ "mcpServers": servers })
}

const TOOLS_FILE: &str = "mcp.json";
const TRAJECTORY_FILE: &str = "trajectory.json";
const INSTRUCTION_FILE: &str = "instruction.md";
const PATCH_DRIVER_FILE: &str = "assay_patch_driver.py";
const PATCH_DRIVER: &str = include_str!("patch_driver.py");
const PLACEHOLDER_KEY: &str = "assay-placeholder-key";
