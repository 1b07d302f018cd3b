//! A recording as a trajectory in the Agent Trajectory Interchange Format (ATIF), version 1.8.
//!
//! The agent has no part in it: what it asked and what it was answered tell the story. Each call repeats the conversation
//! so far, so only what is new in a call becomes steps; calls of several conversations are kept apart by what they begin
//! with. Calls that hold no conversation (vectors, token counts) are counted in the final metrics alone.

mod answer;
mod content;
mod thread;
mod turn;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    money::PicoUsd,
    recording::{Call, Extent},
};

use self::{
    thread::Threads,
    turn::{Said, Turn},
};

/// The version that is written.
pub const SCHEMA: &str = "ATIF-v1.8";

/// A whole trajectory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trajectory {
    /// `ATIF-v1.8`.
    pub schema_version: String,
    /// The run.
    pub session_id: String,
    /// The attempt.
    pub trajectory_id: String,
    /// Whose it is.
    pub agent: Agent,
    /// At least one.
    pub steps: Vec<Step>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Sums.
    pub final_metrics: FinalMetrics,
}

/// Whose trajectory it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Its version: the digest of its bundle, where it has one.
    pub version: String,
    /// The model of its first call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// The tools that it offered first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_definitions: Option<Vec<Map<String, Value>>>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Instructions.
    System,
    /// What the agent's program put in.
    User,
    /// The model.
    Agent,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// From 1.
    pub step_id: u64,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Who speaks.
    pub source: Source,
    /// The model, for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// What is said. Pictures and sounds are named, not repeated.
    pub message: String,
    /// What the model thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// What it wants done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// What came of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The agent's program put words into the model's mouth, or changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_copied_context: Option<bool>,
    /// 1 for a recorded call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_call_count: Option<u64>,
    /// Number, status and end of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The service's name of it.
    pub tool_call_id: String,
    /// The tool.
    pub function_name: String,
    /// Its arguments; text that is no object is under `text`.
    pub arguments: Map<String, Value>,
}

/// Results of tools.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// In the order in which they were told.
    pub results: Vec<ToolResult>,
}

/// Result of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// Of which call.
    pub source_call_id: String,
    /// What came of it.
    pub content: String,
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Tokens in.
    pub prompt_tokens: u64,
    /// Tokens out.
    pub completion_tokens: u64,
    /// Of the tokens in, read from a cache.
    pub cached_tokens: u64,
    /// USD.
    pub cost_usd: f64,
}

/// What all calls used, those without a step included.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalMetrics {
    /// Tokens in.
    pub total_prompt_tokens: u64,
    /// Tokens out.
    pub total_completion_tokens: u64,
    /// Of the tokens in, read from a cache.
    pub total_cached_tokens: u64,
    /// USD.
    pub total_cost_usd: f64,
    /// Steps.
    pub total_steps: u64,
}

/// Whose recording it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The run's id.
    pub run: String,
    /// The attempt's id.
    pub attempt: String,
    /// The agent's name.
    pub agent: String,
    /// The agent's version.
    pub version: String,
}

/// The calls as a trajectory; `None` where none of them holds a conversation.
pub fn export(subject: Subject, calls: &[Call]) -> Option<Trajectory> {
    let mut writer = Writer::default();
    for call in calls {
        writer.take(call);
    }
    if writer.steps.is_empty() {
        return None;
    }
    let whole = calls.iter().all(|call| call.extent == Extent::Whole);
    let mut final_metrics = writer.sums;
    final_metrics.total_cost_usd = usd(writer.cost);
    final_metrics.total_steps = writer.steps.len() as u64;
    Some(Trajectory {
        schema_version: SCHEMA.to_owned(),
        session_id: subject.run,
        trajectory_id: subject.attempt,
        agent: Agent {
            name: subject.agent,
            version: subject.version,
            model_name: calls.first().map(|call| call.model.to_string()),
            tool_definitions: writer.tools,
        },
        steps: writer.steps,
        notes: (!whole).then(|| "Some answers were cut off, or too long to be recorded.".to_owned()),
        final_metrics,
    })
}

#[derive(Default)]
struct Writer {
    steps: Vec<Step>,
    threads: Threads,
    tools: Option<Vec<Map<String, Value>>>,
    sums: FinalMetrics,
    cost: PicoUsd,
}

impl Writer {
    fn take(&mut self, call: &Call) {
        self.sums.total_prompt_tokens += call.input_tokens;
        self.sums.total_completion_tokens += call.output_tokens;
        self.sums.total_cached_tokens += call.cached_tokens;
        self.cost += call.cost;
        let Ok(request) = serde_json::from_str::<Value>(call.request.get()) else {
            return;
        };
        let Some(turns) = turn::of_request(&call.api, &request) else {
            return;
        };
        if self.tools.is_none() {
            self.tools = content::tools(&request);
        }
        let said = answer::read(call);
        let known = self.threads.follow(&turns, &said);
        for turn in turns.into_iter().skip(known) {
            self.told(turn, call);
        }
        self.answered(said, call);
    }

    /// Something new in the conversation that a call repeats.
    fn told(&mut self, turn: Turn, call: &Call) {
        match turn {
            Turn::System(text) => {
                self.push(Source::System, text, call);
            }
            Turn::User(text) => {
                self.push(Source::User, text, call);
            }
            Turn::Model(said) => {
                let step = self.push(Source::Agent, said.text, call);
                step.tool_calls = some(said.tools);
                step.is_copied_context = Some(true);
            }
            Turn::Result { call: id, content } => self.result(id, content, call),
        }
    }

    /// A result belongs to the step that asked for it.
    fn result(&mut self, id: String, content: String, call: &Call) {
        let asked = |step: &&mut Step| {
            let mut tools = step.tool_calls.iter().flatten();
            tools.any(|tool| tool.tool_call_id == id)
        };
        if let Some(step) = self.steps.iter_mut().rev().find(asked) {
            let results = &mut step.observation.get_or_insert_default().results;
            results.push(ToolResult {
                source_call_id: id,
                content,
            });
            return;
        }
        let step = self.push(Source::User, content, call);
        let extra = step.extra.get_or_insert_default();
        extra.insert("tool_call_id".to_owned(), id.into());
    }

    fn answered(&mut self, said: Said, call: &Call) {
        let metrics = Metrics {
            prompt_tokens: call.input_tokens,
            completion_tokens: call.output_tokens,
            cached_tokens: call.cached_tokens,
            cost_usd: usd(call.cost),
        };
        let step = self.push(Source::Agent, said.text, call);
        step.timestamp = Some(call.ended.clone());
        step.model_name = Some(call.model.to_string());
        step.reasoning_content = (!said.reasoning.is_empty()).then_some(said.reasoning);
        step.tool_calls = some(said.tools);
        step.metrics = Some(metrics);
        step.llm_call_count = Some(1);
        let extra = step.extra.get_or_insert_default();
        extra.insert("api".to_owned(), call.api.clone().into());
        extra.insert("status".to_owned(), call.status.into());
        if call.extent != Extent::Whole {
            let extent = serde_json::to_value(call.extent).unwrap_or_default();
            extra.insert("extent".to_owned(), extent);
        }
    }

    fn push(&mut self, source: Source, message: String, call: &Call) -> &mut Step {
        let extra = [("call".to_owned(), Value::from(call.seq))].into_iter().collect();
        let step = Step {
            step_id: self.steps.len() as u64 + 1,
            timestamp: Some(call.begun.clone()),
            source,
            model_name: None,
            message,
            reasoning_content: None,
            tool_calls: None,
            observation: None,
            metrics: None,
            is_copied_context: None,
            llm_call_count: None,
            extra: Some(extra),
        };
        self.steps.push_mut(step)
    }
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

/// The format wants a number; a binary fraction is near enough for people, and the ledger has the exact sum.
fn usd(amount: PicoUsd) -> f64 {
    amount.to_string().parse().unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
