//! `policy.toml`: what a run may reach and spend. Strict, immutable, named by its digest.

mod images;
pub mod lint;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::images::Images;
use crate::{
    digest::Digest,
    egress::{self, Egress, HostPattern},
    money::PicoUsd,
    phase::EgressPhase,
    price::ModelSlug,
};

/// What a run may reach and spend. The default has no model and no budget.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The models that the agent may call.
    pub models: Models,
    /// Dollars, requests and tokens.
    pub budget: Budget,
    /// What each egress phase may reach. A phase that is absent has its default, see [`Policy::egress`].
    pub egress: EgressRules,
    /// What is known of hosts that rules list, by the same pattern.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<HostPattern, HostRule>,
    /// What tasks may start from.
    #[serde(skip_serializing_if = "is_default")]
    pub images: Images,
    /// Whether the agent's phase follows the task.
    pub agent_network: AgentNetwork,
    /// Deadlines.
    pub time: Time,
    /// How the work is verified.
    pub verifier: Verifier,
    /// What happens when a proxy cannot write its audit.
    #[serde(skip_serializing_if = "is_default")]
    pub audit: AuditDuty,
    /// What of the model calls is kept, beside what they cost.
    #[serde(skip_serializing_if = "is_default")]
    pub record: Recorded,
    /// The digest of a recording from which model calls are answered, instead of by the model services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Digest>,
}

/// What happens when a proxy cannot write its audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditDuty {
    /// It goes on, and its health says so.
    #[default]
    BestEffort,
    /// Nothing is forwarded: each connection and request is in the audit before its first byte goes out.
    Required,
}

/// What of the model calls is kept, beside what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Nothing.
    #[default]
    Nothing,
    /// Requests and answers with their bodies, without credentials.
    Models,
}

/// What is as always is left out, so that a policy keeps its digest when a key is new.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The models of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Exact slugs that the agent may name in `model` and `models`.
    pub allow: BTreeSet<ModelSlug>,
    /// Optional request fields that are refused although the platform knows them.
    pub deny_fields: BTreeSet<String>,
    /// Written into every request as `seed` when set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// What may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// The agent of one run, over all its attempts.
    pub run_usd: PicoUsd,
    /// The whole evaluation; `run_usd` times the number of runs when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling_usd: Option<PicoUsd>,
    /// The verifier of one run.
    pub verifier_usd: PicoUsd,
    /// Model requests of one run.
    pub max_requests: u64,
    /// Input and output tokens of one run together.
    pub max_tokens: u64,
    /// Model requests at the same time.
    pub max_parallel: u32,
    /// Model requests in a minute, e.g. `60`; as many as it likes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Input and output tokens in a minute, counted as reserved, e.g. `200000`; as many as it likes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            run_usd: PicoUsd::ZERO,
            ceiling_usd: None,
            verifier_usd: PicoUsd::ZERO,
            max_requests: 1000,
            max_tokens: 20_000_000,
            max_parallel: 16,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

/// The rules of the egress phases; an absent one has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct EgressRules {
    /// While the image is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<EgressRule>,
    /// While the agent is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<EgressRule>,
    /// While the agent works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<EgressRule>,
    /// While the verifier works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<EgressRule>,
}

impl EgressRules {
    /// The rule of a phase.
    pub fn of(&self, phase: EgressPhase) -> Option<&EgressRule> {
        match phase {
            EgressPhase::Build => self.build.as_ref(),
            EgressPhase::Setup => self.setup.as_ref(),
            EgressPhase::Agent => self.agent.as_ref(),
            EgressPhase::Verify => self.verify.as_ref(),
        }
    }
}

/// What one egress phase may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// `none`, `hosts` or `public`.
    pub mode: Mode,
    /// Names, with `hosts` only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<HostPattern>,
    /// Named sets of hosts, with `hosts` only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sets: BTreeSet<HostSet>,
}

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HostRule {
    /// Whether it may be on a front that many tenants share: any of them can be reached through it.
    pub shared_cdn: SharedCdn,
    /// Refuses connections that hide the name they mean. Browsers always look like that.
    pub deny_ech: bool,
}

/// Whether a host may be on a shared front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SharedCdn {
    /// It must not.
    #[default]
    Deny,
    /// It is listed knowingly.
    Allow,
}

/// How much of the world a phase reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing.
    None,
    /// The listed hosts.
    Hosts,
    /// Any public name.
    Public,
}

/// A named set of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HostSet {
    /// apt, PyPI, npm, crates, Go proxy.
    Packages,
}

impl EgressRule {
    fn resolve(&self) -> Egress {
        match self.mode {
            Mode::None => Egress::None,
            Mode::Public => Egress::Public,
            Mode::Hosts => {
                let mut hosts = self.hosts.clone();
                if self.sets.contains(&HostSet::Packages) {
                    hosts.extend(egress::packages());
                }
                Egress::Hosts { hosts }
            }
        }
    }
}

/// Whose word holds for the agent's phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AgentNetwork {
    /// The policy's: its model hosts and what `[egress.agent]` lists.
    #[default]
    Policy,
    /// The task's `network_mode` and `allowed_hosts`, and the policy's model hosts.
    Task,
}

/// Deadlines. An absent one is the task's, or the platform's default; the operator's maximum caps all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// Seconds for the agent, instead of the task's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_sec: Option<f64>,
    /// Seconds for the verifier, instead of the task's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifier_sec: Option<f64>,
    /// Multiplies every deadline.
    pub multiplier: f64,
    /// Seconds that a model service may be silent before a request to it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_silence_sec: Option<f64>,
}

impl Default for Time {
    fn default() -> Self {
        Self {
            agent_sec: None,
            verifier_sec: None,
            multiplier: 1.0,
            model_silence_sec: None,
        }
    }
}

/// How the work is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Verifier {
    /// Where the verifier runs.
    pub mode: VerifierMode,
    /// What happens to processes that the agent left, in shared mode.
    pub survivors: Survivors,
    /// Absolute paths carried to a separate verifier where the task declares no artifacts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub carry: Vec<String>,
    /// Models that the verifier may call, from its own purse.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<ModelSlug>,
}

/// Where the verifier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum VerifierMode {
    /// As the task says; `patch` agents always separate.
    #[default]
    Task,
    /// Always in a fresh sandbox.
    Separate,
}

/// What happens to processes that the agent left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Survivors {
    /// They stay: tasks test servers that way.
    #[default]
    Keep,
    /// They are killed before the verifier starts.
    Kill,
}

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy: {path}: {message}")]
pub struct InvalidPolicy {
    /// The key at fault, e.g. `egress.agent.mode`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Policy {
    /// Reads and checks a `policy.toml`.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let syntax = |error: &toml::de::Error| InvalidPolicy {
            path: "(file)".to_owned(),
            message: error.to_string(),
        };
        let document = toml::Deserializer::parse(text).map_err(|error| syntax(&error))?;
        let policy: Self = serde_path_to_error::deserialize(document).map_err(|error| InvalidPolicy {
            path: error.path().to_string(),
            message: error.inner().message().to_owned(),
        })?;
        policy.check()?;
        Ok(policy)
    }

    /// Checks what the types alone cannot.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        let invalid = |path: String, message: &str| {
            Err(InvalidPolicy {
                path,
                message: message.to_owned(),
            })
        };
        for (phase, rule) in EgressPhase::ALL
            .into_iter()
            .filter_map(|phase| Some((phase, self.egress.of(phase)?)))
        {
            let names_hosts = !rule.hosts.is_empty() || !rule.sets.is_empty();
            if rule.mode != Mode::Hosts && names_hosts {
                return invalid(format!("egress.{phase}.hosts"), "only with mode = \"hosts\"");
            }
            if rule.mode == Mode::Hosts && !names_hosts {
                return invalid(
                    format!("egress.{phase}.hosts"),
                    "names no host; use mode = \"none\"",
                );
            }
        }
        for (path, value) in [
            ("time.agent_sec", self.time.agent_sec),
            ("time.verifier_sec", self.time.verifier_sec),
            ("time.multiplier", Some(self.time.multiplier)),
            ("time.model_silence_sec", self.time.model_silence_sec),
        ] {
            if value.is_some_and(|value| !value.is_finite() || value <= 0.0) {
                return invalid(path.to_owned(), "must be a finite number above 0");
            }
        }
        let rates = [
            (
                "budget.requests_per_minute",
                self.budget.requests_per_minute.map(u64::from),
            ),
            ("budget.tokens_per_minute", self.budget.tokens_per_minute),
        ];
        if let Some((path, _)) = rates.iter().find(|(_, rate)| *rate == Some(0)) {
            return invalid((*path).to_owned(), "must be above 0; leave it out for no limit");
        }
        if self.replay.is_some() && self.record != Recorded::Nothing {
            return invalid(
                "record".to_owned(),
                "what is answered from a recording is not recorded again",
            );
        }
        if self.models.allow.is_empty() && !self.budget.run_usd.is_zero() {
            return invalid(
                "models.allow".to_owned(),
                "a budget without a model cannot be spent",
            );
        }
        if let Some(path) = self
            .verifier
            .carry
            .iter()
            .find(|path| !path.starts_with('/') || path.split('/').any(|part| part == ".."))
        {
            return invalid(
                "verifier.carry".to_owned(),
                &format!("{path:?} is no absolute path without `..`"),
            );
        }
        Ok(())
    }

    /// The name of this policy: the digest of its canonical JSON.
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Hosts whose connections must not hide the name they mean.
    pub fn deny_ech(&self) -> BTreeSet<HostPattern> {
        let denied = self.hosts.iter().filter(|(_, rule)| rule.deny_ech);
        denied.map(|(host, _)| host.clone()).collect()
    }

    /// What a phase may reach by the policy's word. `task` is what the task asks for in that phase.
    ///
    /// Without a rule: `packages` for build and setup, nothing but model hosts for the agent, the task's word for verify.
    pub fn egress(&self, phase: EgressPhase, task: &Egress) -> Egress {
        if phase == EgressPhase::Agent && self.agent_network == AgentNetwork::Task {
            return task.clone();
        }
        match (self.egress.of(phase), phase) {
            (Some(rule), _) => rule.resolve(),
            (None, EgressPhase::Build | EgressPhase::Setup) => Egress::packages(),
            (None, EgressPhase::Agent) => Egress::None,
            (None, EgressPhase::Verify) => task.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
