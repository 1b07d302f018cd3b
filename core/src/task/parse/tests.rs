use proptest::prelude::*;

use super::*;
use crate::task::config::{Os, Transport};

fn parse(text: &str) -> (Config, Vec<String>) {
    let (config, warnings) = Config::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    (config, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn an_empty_file_has_every_default() {
    let (config, warnings) = parse("");
    assert_eq!(config.schema_version, "1.4");
    assert_eq!(
        (config.verifier.timeout_sec, config.environment.build_timeout_sec),
        (600.0, 600.0)
    );
    assert_eq!(config.environment.network_mode, NetworkMode::Public);
    assert_eq!(
        (config.agent.timeout_sec, config.steps, warnings),
        (None, None, vec![])
    );
}

#[test]
fn every_key_is_read() {
    let (config, warnings) = parse(include_str!("every_key.toml"));
    assert_eq!(warnings, Vec::<String>::new());
    let environment = &config.environment;
    assert_eq!(environment.os, Os::Linux);
    assert_eq!((environment.cpus, environment.memory_mb), (Some(0.5), Some(2048)));
    assert_eq!(environment.mcp_servers[0].transport, Transport::StreamableHttp);
    assert_eq!(
        environment.allowed_hosts.as_deref(),
        Some(&["a.example.org".to_owned(), "*.b.org".to_owned()][..])
    );
    assert_eq!(config.artifacts[1].exclude, ["*.tmp"]);
    assert_eq!(config.verifier.collect[0].service, "main");
    let steps = config.steps.unwrap();
    assert_eq!(steps[0].min_reward, Some(MinReward::One(0.5)));
    assert_eq!(steps[1].agent.user, Some(User::Id(1000)));
}

#[test]
fn old_files_mean_what_they_meant() {
    let old = "version = '1.0'\n[environment]\nmemory = '2G'\nstorage = '512M'\nallow_internet = false\n";
    let (config, warnings) = parse(old);
    assert_eq!(config.schema_version, "1.0");
    assert_eq!(
        (config.environment.memory_mb, config.environment.storage_mb),
        (Some(2048), Some(512))
    );
    assert_eq!(config.environment.network_mode, NetworkMode::NoNetwork);
    assert_eq!(warnings.len(), 3);
    let (config, _) = parse("[environment]\nallow_internet = false\nnetwork_mode = 'public'");
    assert_eq!(config.environment.network_mode, NetworkMode::Public);
}

#[test]
fn unknown_keys_are_warned_about_with_a_guess() {
    let (_, warnings) = parse("sources = 'x'\n[agent]\ntimeout_seconds = 3\nzebra = 1\n[verifer]\n");
    for (part, guess) in [
        (
            "agent.timeout_seconds: line 3, column 19",
            "did you mean `timeout_sec`?",
        ),
        ("agent.zebra", "is not a key that is known"),
        ("sources", "did you mean `source`?"),
        ("verifer", "did you mean `verifier`?"),
    ] {
        assert!(
            warnings
                .iter()
                .any(|text| text.contains(part) && text.contains(guess)),
            "{warnings:?}"
        );
    }
}

#[test]
fn faults_are_told_with_line_column_and_key() {
    for (text, key, place, word) in FAULTS {
        let error = Config::parse(text).expect_err(text).to_string();
        for part in [key, place, word] {
            assert!(error.contains(part), "{text}\n{error}\nlacks {part}");
        }
    }
}

#[test]
fn numbers_may_be_written_as_text() {
    let (config, _) =
        parse("[environment]\nmemory_mb = '512'\ngpus = 0.0\n[agent]\ntimeout_sec = '60'\nuser = true");
    assert_eq!(
        (config.environment.memory_mb, config.environment.gpus),
        (Some(512), Some(0))
    );
    assert_eq!(
        (config.agent.timeout_sec, config.agent.user),
        (Some(60.0), Some(User::Id(1)))
    );
    for text in [
        "memory_mb = 1.5",
        "memory_mb = '1.5'",
        "memory_mb = 'x'",
        "cpus = []",
    ] {
        assert!(
            Config::parse(&format!("[environment]\n{text}")).is_err(),
            "{text}"
        );
    }
}

/// Text, key, place, word of the message.
const FAULTS: &[(&str, &str, &str, &str)] = &[
    ("x = ", "", "line 1, column 5", ""),
    ("a = 1\na = 2", "", "line 2", "duplicate key"),
    (
        "[agent]\ntimeout_sec = [1]",
        "agent.timeout_sec",
        "line 2, column 15",
        "want a number, found array",
    ),
    ("agent = 3", "agent", "line 1, column 9", "want a table"),
    (
        "[verifier.env]\nPORT = 80",
        "verifier.env.PORT",
        "line 2, column 8",
        "want a string",
    ),
    ("[task]\nname = 'x'", "task.name", "line 2", "org/name"),
    ("[task]\nversion = '1'", "task.name", "line 1", "is missing"),
    (
        "[environment]\nallowed_hosts = ['a.com']",
        "environment.allowed_hosts",
        "line 2",
        "only with",
    ),
    (
        "[agent]\nallowed_hosts = []",
        "agent.allowed_hosts",
        "line 2",
        "only with",
    ),
    (
        "[agent]\nnetwork_mode = 'allowlist'\nallowed_hosts = ['http://a.com']",
        "agent.allowed_hosts[0]",
        "line 3, column 18",
        "is no host",
    ),
    (
        "[environment]\ncpus = nan",
        "environment.cpus",
        "line 2",
        "finite",
    ),
    (
        "[environment]\nmemory = '2GB'",
        "environment.memory",
        "line 2",
        "is no size",
    ),
    (
        "[environment]\nmemory = '2G'\nmemory_mb = 1",
        "environment.memory",
        "line 2",
        "contradicts",
    ),
    (
        "[[steps]]\nname = 'a'\n[[steps]]\nname = 'A'",
        "steps",
        "line",
        "two steps",
    ),
    ("[[steps]]\nname = 'CON'", "steps[0].name", "line 2", "device"),
    (
        "[[steps]]\nname = 'a/b'",
        "steps[0].name",
        "line 2",
        "not every system",
    ),
    ("artifacts = ['a/../b']", "artifacts[0]", "line 1", "`..`"),
    (
        "artifacts = [{source = '/a', destination = 'manifest.json'}]",
        "artifacts[0].destination",
        "",
        "reserved",
    ),
    (
        "artifacts = [{source = 'a', service = 'db'}]",
        "artifacts[0].source",
        "",
        "absolute",
    ),
    (
        "[verifier]\nenvironment_mode = 'shared'\n[verifier.environment]\n",
        "verifier.environment_mode",
        "line 2",
        "contradicts",
    ),
    (
        "[[environment.mcp_servers]]\nname = 'x'",
        "environment.mcp_servers[0].url",
        "line 1",
        "is needed",
    ),
    (
        "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='Bearer x'}",
        "environment.mcp_servers[0].headers",
        "line 4",
        "credential",
    ),
];

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        drop(Config::parse(&text));
    }

    #[test]
    fn no_value_makes_it_panic(
        table in prop::sample::select(vec!["", "[agent]", "[verifier]", "[environment]", "[[steps]]", "[task]", "[environment.healthcheck]", "[[environment.mcp_servers]]"]),
        key in prop::sample::select(vec!["timeout_sec", "user", "name", "allowed_hosts", "network_mode", "memory", "memory_mb", "cpus", "os", "tpu", "env", "artifacts", "steps", "headers", "min_reward", "retries"]),
        value in prop::sample::select(vec!["1", "-1", "1e400", "nan", "'x'", "''", "[]", "{}", "['a', 1]", "true", "2026-01-01", "9223372036854775807", "'ß'", "{a = {b = 1}}", "0x10", "1_000.5"]),
    ) {
        drop(Config::parse(&format!("{table}\n{key} = {value}\n")));
    }
}
