//! `docs/POLICY.md` against the type: every example parses, every key of the type is in one, and no example is stale.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;

use assay_core::{
    digest::Digest,
    policy::{
        AgentNetwork, AuditDuty, Budget, EgressRule, EgressRules, HostRule, HostSet, Images, Mode, Models,
        Policy, Recorded, SharedCdn, Survivors, Time, Verifier, VerifierMode,
    },
};
use serde_json::Value;

/// Every key has a value that is written down. Without `..`: a new key does not compile until it is here.
fn everything() -> Policy {
    let model = || ["test/small".parse().unwrap()].into();
    let rule = || {
        Some(EgressRule {
            mode: Mode::Hosts,
            hosts: ["a.example.com".parse().unwrap()].into(),
            sets: [HostSet::Packages].into(),
        })
    };
    Policy {
        models: Models {
            allow: model(),
            deny_fields: ["logprobs".to_owned()].into(),
            seed: Some(1),
        },
        budget: Budget {
            run_usd: "1".parse().unwrap(),
            ceiling_usd: Some("1".parse().unwrap()),
            verifier_usd: "1".parse().unwrap(),
            max_requests: 1,
            max_tokens: 1,
            max_parallel: 1,
            requests_per_minute: Some(1),
            tokens_per_minute: Some(1),
        },
        egress: EgressRules {
            build: rule(),
            setup: rule(),
            agent: rule(),
            verify: rule(),
        },
        hosts: [(
            "a.example.com".parse().unwrap(),
            HostRule {
                shared_cdn: SharedCdn::Allow,
                deny_ech: true,
            },
        )]
        .into(),
        images: Images {
            allow: ["debian".to_owned()].into(),
        },
        agent_network: AgentNetwork::Task,
        time: Time {
            agent_sec: Some(1.0),
            verifier_sec: Some(1.0),
            multiplier: 1.0,
            model_silence_sec: Some(1.0),
        },
        verifier: Verifier {
            mode: VerifierMode::Separate,
            survivors: Survivors::Kill,
            carry: vec!["/app".to_owned()],
            models: model(),
        },
        audit: AuditDuty::Required,
        record: Recorded::Models,
        replay: Some(Digest::of("x")),
    }
}

/// Paths of all keys; phases and names of hosts are `*`.
fn paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    let Some(members) = value.as_object() else {
        into.insert(path.to_owned());
        return;
    };
    for (key, value) in members {
        let key = if matches!(path, "egress" | "hosts") {
            "*"
        } else {
            key
        };
        let path = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        paths(value, &path, into);
    }
}

fn examples() -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/POLICY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_example_of_the_documentation_parses() {
    let examples = examples();
    assert!(examples.len() >= 4);
    for example in examples {
        if let Err(error) = Policy::parse(&example) {
            panic!("{error}: {example}");
        }
    }
}

#[test]
fn every_key_has_an_example() {
    let (mut known, mut shown) = (BTreeSet::new(), BTreeSet::new());
    paths(&serde_json::to_value(everything()).unwrap(), "", &mut known);
    for example in examples() {
        let table: Value = toml::from_str(&example).unwrap();
        paths(&table, "", &mut shown);
    }
    assert_eq!(shown, known);
}
