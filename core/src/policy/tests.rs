//! Policies that are read, and those that are refused.

use super::*;

const FULL: &str = r#"
    agent_network = "policy"
    [models]
    allow = ["openai/gpt-5-mini"]
    [budget]
    run_usd = "0.50"
    max_requests = 20
    [egress.setup]
    mode = "hosts"
    sets = ["packages"]
    hosts = ["*.example.org"]
    [egress.verify]
    mode = "none"
    [time]
    agent_sec = 600
    [verifier]
    mode = "separate"
    carry = ["/app"]
"#;

#[test]
fn a_full_policy_is_read() {
    let policy = Policy::parse(FULL).unwrap();
    assert_eq!(policy.budget.run_usd.to_string(), "0.5");
    assert!(
        policy
            .egress(EgressPhase::Setup, &Egress::None)
            .allows(&"pypi.org".parse().unwrap())
    );
    assert_eq!(policy.egress(EgressPhase::Verify, &Egress::Public), Egress::None);
    assert_eq!(policy.egress(EgressPhase::Agent, &Egress::Public), Egress::None);
}

#[test]
fn the_empty_policy_has_no_model_and_no_money() {
    let policy = Policy::parse("").unwrap();
    assert_eq!(policy, Policy::default());
    assert!(policy.models.allow.is_empty() && policy.budget.run_usd.is_zero());
}

#[test]
fn faults_are_told_with_their_path() {
    for (text, path, word) in [
        ("colour = 1", "colour", "unknown field"),
        ("[budget]\nrun_usd = 0.5", "budget.run_usd", "invalid type"),
        ("[budget]\nrun_usd = \"-1\"", "budget.run_usd", "not an amount"),
        (
            "[egress.agent]\nmode = \"all\"",
            "egress.agent.mode",
            "unknown variant",
        ),
        (
            "[egress.agent]\nmode = \"none\"\nhosts = [\"a.com\"]",
            "egress.agent.hosts",
            "only with",
        ),
        (
            "[egress.agent]\nmode = \"hosts\"\nhosts = [\"*.com\"]",
            "egress.agent.hosts",
            "too wide",
        ),
        ("[time]\nmultiplier = 0", "time.multiplier", "above 0"),
        (
            "[models]\nallow = [\"openrouter/auto\"]",
            "models.allow",
            "not a model slug",
        ),
        ("[budget]\nrun_usd = \"1\"", "models.allow", "without a model"),
        (
            "record = \"models\"\nreplay = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
            "record",
            "not recorded again",
        ),
        (
            "[budget]\nrequests_per_minute = 0",
            "budget.requests_per_minute",
            "above 0",
        ),
        (
            "[verifier]\ncarry = [\"../x\"]",
            "verifier.carry",
            "no absolute path",
        ),
    ] {
        let error = Policy::parse(text).unwrap_err();
        assert!(error.path.starts_with(path), "{text}: {error}");
        assert!(error.message.contains(word), "{text}: {error}");
    }
}

#[test]
fn the_digest_names_the_content() {
    let policy = Policy::parse(FULL).unwrap();
    assert_eq!(policy.digest(), Policy::parse(FULL).unwrap().digest());
    assert_ne!(policy.digest(), Policy::default().digest());
}
