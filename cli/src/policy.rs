//! The policy of a submission: from a file or from flags, and how it is shown before the first run starts.

use assay_core::{
    agent::Contract,
    egress::Egress,
    phase::EgressPhase,
    policy::{AgentNetwork, AuditDuty, Mode, Policy, Recorded, Survivors, VerifierMode},
};

use crate::{args::PolicyArgs, error::Error};

/// The policy that the options ask for. Without any: no model and no money.
///
/// # Errors
/// A file that cannot be read or is no policy.
pub fn from_args(args: &PolicyArgs) -> Result<Policy, Error> {
    if let Some(path) = &args.policy {
        let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
        return Policy::parse(&text).map_err(|error| Error::Data(format!("{}: {error}", path.display())));
    }
    let mut policy = Policy::default();
    policy.models.allow.extend(args.models.iter().cloned());
    policy.budget.run_usd = args.budget.unwrap_or_default();
    policy.time.agent_sec = args.timeout;
    policy.check().map_err(|error| Error::Usage(error.to_string()))?;
    Ok(policy)
}

/// The policy in words, one fact a line.
pub fn describe(policy: &Policy, contract: Contract, runs: u64) -> String {
    let budget = &policy.budget;
    let ceiling = budget.ceiling_usd.unwrap_or_else(|| budget.run_usd.times(runs));
    let mut lines = vec![
        format!("policy {}", policy.digest()),
        format!("  models   {}", models(policy)),
    ];
    lines.push(format!(
        "  money    {} USD for each run, {ceiling} USD in all; verifier {} USD",
        budget.run_usd, budget.verifier_usd
    ));
    if !policy.models.allow.is_empty() {
        lines.push(format!(
            "  use      {} requests, {} tokens, {} at the same time",
            budget.max_requests, budget.max_tokens, budget.max_parallel
        ));
    }
    lines.push(format!("  time     {}", time(policy)));
    for phase in EgressPhase::ALL {
        lines.push(format!("  {:<8} {}", phase.name(), reach(policy, phase)));
    }
    lines.push(format!("  verifier {}", verifier(policy, contract)));
    lines.extend(records(policy).into_iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

/// What is written down beyond the usual, and what is answered from it.
fn records(policy: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    if policy.audit == AuditDuty::Required {
        lines.push("audit    required: what it cannot tell is not forwarded".to_owned());
    }
    if policy.record == Recorded::Models {
        lines.push("record   model calls with their bodies".to_owned());
    }
    if let Some(digest) = policy.replay {
        lines.push(format!(
            "replay   model calls are answered from {digest}; no service is called, nothing is spent"
        ));
    }
    lines
}

fn models(policy: &Policy) -> String {
    let names: Vec<&str> = policy
        .models
        .allow
        .iter()
        .map(assay_core::price::ModelSlug::as_str)
        .collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    }
}

fn time(policy: &Policy) -> String {
    let said =
        |value: Option<f64>| value.map_or_else(|| "the task's".to_owned(), |value| format!("{value} s"));
    let multiplier = match policy.time.multiplier {
        1.0 => String::new(),
        times => format!("; all deadlines × {times}"),
    };
    format!(
        "agent {}, verifier {}{multiplier}",
        said(policy.time.agent_sec),
        said(policy.time.verifier_sec)
    )
}

/// What a phase may reach, in words. A rule that leaves it to the task says so.
pub fn reach(policy: &Policy, phase: EgressPhase) -> String {
    let models = phase == EgressPhase::Agent && !policy.models.allow.is_empty();
    let hosts = match (policy.egress.of(phase), phase) {
        (_, EgressPhase::Agent) if policy.agent_network == AgentNetwork::Task => {
            "what the task asks for".to_owned()
        }
        (Some(rule), _) if rule.mode == Mode::Hosts => egress(&policy.egress(phase, &Egress::None)),
        (Some(rule), _) if rule.mode == Mode::Public => egress(&Egress::Public),
        (Some(_), _) | (None, EgressPhase::Agent) => "nothing".to_owned(),
        (None, EgressPhase::Build | EgressPhase::Setup) => "package registries".to_owned(),
        (None, EgressPhase::Verify) => "what the task asks for".to_owned(),
    };
    match (models, hosts.as_str()) {
        (true, "nothing") => "the models' hosts only".to_owned(),
        (true, hosts) => format!("the models' hosts and {hosts}"),
        (false, hosts) => hosts.to_owned(),
    }
}

/// An egress in words.
pub fn egress(egress: &Egress) -> String {
    match egress {
        Egress::None => "nothing".to_owned(),
        Egress::Public => "any public name, ports 80 and 443".to_owned(),
        Egress::Hosts { hosts } => {
            let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            match names.len() {
                0..=6 => names.join(", "),
                more => format!("{} and {} more", names[..5].join(", "), more - 5),
            }
        }
    }
}

fn verifier(policy: &Policy, contract: Contract) -> &'static str {
    match (policy.verifier.mode, contract, policy.verifier.survivors) {
        (VerifierMode::Separate, ..) => "in a fresh sandbox",
        (VerifierMode::Task, Contract::Patch, _) => "in a fresh sandbox with the agent's diff",
        (VerifierMode::Task, _, Survivors::Keep) => "as the task says",
        (VerifierMode::Task, _, Survivors::Kill) => {
            "as the task says; what the agent left running is killed first"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_options_there_is_no_model_and_no_money() {
        let policy = from_args(&PolicyArgs::default()).unwrap();
        assert_eq!(policy, Policy::default());
        let text = describe(&policy, Contract::Oracle, 3);
        assert!(text.contains("models   none"), "{text}");
        assert!(
            text.contains("money    0 USD for each run, 0 USD in all"),
            "{text}"
        );
        assert!(text.contains("agent    nothing"), "{text}");
    }

    #[test]
    fn flags_become_a_policy_and_the_ceiling_counts_every_run() {
        let args = PolicyArgs {
            policy: None,
            models: vec!["openai/gpt-5-mini".parse().unwrap()],
            budget: Some("0.25".parse().unwrap()),
            timeout: Some(600.0),
        };
        let policy = from_args(&args).unwrap();
        let text = describe(&policy, Contract::Patch, 4);
        assert!(text.contains("0.25 USD for each run, 1 USD in all"), "{text}");
        assert!(text.contains("agent 600 s"), "{text}");
        assert!(text.contains("agent    the models' hosts only"), "{text}");
        assert!(text.contains("fresh sandbox with the agent's diff"), "{text}");
    }

    #[test]
    fn a_fault_in_the_file_is_told_with_file_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "[budget]\nrun_usd = 1").unwrap();
        let args = PolicyArgs {
            policy: Some(path),
            ..PolicyArgs::default()
        };
        let error = from_args(&args).unwrap_err();
        assert!(
            error.to_string().contains("policy.toml: policy: budget.run_usd"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 65);
    }
}
