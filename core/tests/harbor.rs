//! Harbor's own parser and ours, over a generated corpus of `task.toml`: the same accepted or refused, the same values.
//!
//! Needs `ASSAY_HARBOR_PYTHON`, an interpreter with `harbor==0.25.0` (`tests/harbor/setup.sh` prints one).
//! Not compared are documents that only TOML 1.1 allows, numbers that JSON cannot say, and IPv4 addresses mapped into
//! IPv6, which each version of Python writes in its own way.

#![expect(clippy::unwrap_used, reason = "a test's own preparations cannot fail")]

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use assay_core::{
    recording,
    task::Config,
    trajectory::{self, Subject},
};
use serde_json::Value;

#[test]
fn harbor_accepts_refuses_and_reads_the_same() {
    #[expect(clippy::disallowed_methods, reason = "a test's own configuration")]
    let python = std::env::var("ASSAY_HARBOR_PYTHON").unwrap_or_default();
    if python.is_empty() {
        #[expect(clippy::print_stderr, reason = "why a test did not run must be told")]
        {
            eprintln!("skipped: ASSAY_HARBOR_PYTHON names no interpreter with harbor==0.25.0");
        }
        return;
    }
    let corpus = corpus();
    assert!(corpus.len() >= 200, "{}", corpus.len());
    let theirs = harbor(&python, &corpus);
    assert_eq!(theirs.len(), corpus.len());
    let mut differences = String::new();
    for (text, theirs) in corpus.iter().zip(&theirs) {
        let ours = Config::parse(text);
        let same = match (&ours, &theirs["accepted"]) {
            (Ok((config, _)), Value::Bool(true)) => {
                same(&serde_json::to_value(config).unwrap(), &theirs["value"])
            }
            (Err(_), Value::Bool(false)) => true,
            _ => false,
        };
        if !same {
            let ours = match ours {
                Ok((config, _)) => serde_json::to_string(&config).unwrap(),
                Err(error) => error.to_string(),
            };
            write!(differences, "--- {text}\nours:   {ours}\ntheirs: {theirs}\n").unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn harbor_reads_our_trajectories() {
    #[expect(clippy::disallowed_methods, reason = "a test's own configuration")]
    let python = std::env::var("ASSAY_HARBOR_PYTHON").unwrap_or_default();
    if python.is_empty() {
        #[expect(clippy::print_stderr, reason = "why a test did not run must be told")]
        {
            eprintln!("skipped: ASSAY_HARBOR_PYTHON names no interpreter with harbor==0.25.0");
        }
        return;
    }
    let recording = include_bytes!("trajectory/recording.jsonl");
    let subject = Subject {
        run: "run".to_owned(),
        attempt: "attempt".to_owned(),
        agent: "agent".to_owned(),
        version: "1".to_owned(),
    };
    let trajectory = trajectory::export(subject, &recording::calls(recording)).unwrap();
    let ours = serde_json::to_value(&trajectory).unwrap();
    let mut broken = ours.clone();
    broken["steps"][1]["step_id"] = 7.into();
    let script = "import json, sys\nfrom harbor.models.trajectories import Trajectory\n\
        for each in json.load(sys.stdin):\n    try:\n        print(json.dumps(Trajectory.model_validate(each).to_json_dict()))\n    \
        except ValueError as error:\n        print(json.dumps(str(error)))\n";
    let told = ask(&python, script, &serde_json::to_vec(&[&ours, &broken]).unwrap());
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(same(&ours, &told[0]), "ours:   {ours}\ntheirs: {}", told[0]);
    assert!(told[1].as_str().unwrap().contains("sequential"), "{}", told[1]);
}

/// What a script prints that is fed with `input`.
fn ask(python: &str, script: &str, input: &[u8]) -> String {
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn harbor(python: &str, corpus: &[String]) -> Vec<Value> {
    let told = ask(
        python,
        include_str!("harbor.py"),
        &serde_json::to_vec(corpus).unwrap(),
    );
    serde_json::from_str(&told).unwrap()
}

/// Equal, with 2 and 2.0 being the same.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(key, value)| theirs.get(key).is_some_and(|theirs| same(value, theirs)))
        }
        _ => ours == theirs,
    }
}

/// Every key with every value, and whole files.
fn corpus() -> Vec<String> {
    let mut corpus: Vec<String> = WHOLE.iter().map(|text| (*text).to_owned()).collect();
    corpus.push(include_str!("../src/task/parse/every_key.toml").to_owned());
    for (head, key) in KEYS {
        corpus.extend(VALUES.iter().map(|value| format!("{head}\n{key} = {value}\n")));
    }
    for host in HOSTS {
        corpus.push(format!(
            "[agent]\nnetwork_mode = 'allowlist'\nallowed_hosts = ['{host}']"
        ));
    }
    corpus.extend(STEPS.iter().map(|name| format!("[[steps]]\nname = {name:?}")));
    for (first, second) in [("a", "A"), ("ß", "SS"), ("é", "e\u{301}"), ("a", "b")] {
        corpus.push(format!(
            "[[steps]]\nname = {first:?}\n[[steps]]\nname = {second:?}"
        ));
    }
    for size in SIZES {
        corpus.push(format!("[environment]\nmemory = '{size}'"));
        corpus.push(format!("[environment]\nstorage = '{size}'\nstorage_mb = 2048"));
    }
    corpus
}

const VALUES: &[&str] = &[
    "1",
    "0",
    "-3",
    "2.0",
    "0.5",
    "true",
    "false",
    "'text'",
    "''",
    "'12'",
    "' 7 '",
    "'1.0'",
    "'1.5'",
    "'yes'",
    "[]",
    "['a']",
    "[1]",
    "{}",
    "{ a = 'b' }",
    "{ a = 1 }",
    "2026-01-01",
    "0x10",
    "1_000",
    "'public'",
    "'allowlist'",
    "'no-network'",
    "'shared'",
    "'separate'",
    "'mean'",
    "'Linux'",
    "'a/b'",
    "'2x4'",
];

const KEYS: &[(&str, &str)] = &[
    ("", "schema_version"),
    ("", "version"),
    ("", "source"),
    ("", "artifacts"),
    ("", "multi_step_reward_strategy"),
    ("", "steps"),
    ("", "agent"),
    ("", "metadata"),
    ("", "unknown"),
    ("[task]", "name"),
    ("[task]\nname = 'a/b'", "version"),
    ("[task]\nname = 'a/b'", "authors"),
    ("[task]\nname = 'a/b'", "keywords"),
    ("[agent]", "timeout_sec"),
    ("[agent]", "user"),
    ("[agent]", "network_mode"),
    ("[agent]", "allowed_hosts"),
    ("[agent]\nnetwork_mode = 'public'", "allowed_hosts"),
    ("[verifier]", "timeout_sec"),
    ("[verifier]", "env"),
    ("[verifier]", "user"),
    ("[verifier]", "environment_mode"),
    ("[verifier]", "environment"),
    ("[verifier]", "collect"),
    ("[[verifier.collect]]", "command"),
    ("[[verifier.collect]]\ncommand = 'x'", "service"),
    ("[[verifier.collect]]\ncommand = 'x'", "timeout_sec"),
    ("[environment]", "build_timeout_sec"),
    ("[environment]", "docker_image"),
    ("[environment]", "os"),
    ("[environment]", "cpus"),
    ("[environment]", "memory_mb"),
    ("[environment]", "memory"),
    ("[environment]\nmemory = '1G'", "memory_mb"),
    ("[environment]", "gpus"),
    ("[environment]", "gpu_types"),
    ("[environment]", "tpu"),
    ("[environment.tpu]\ntype = 'v6e'", "topology"),
    ("[environment]", "network_mode"),
    ("[environment]", "allowed_hosts"),
    ("[environment]", "allow_internet"),
    ("[environment]\nallow_internet = false", "network_mode"),
    ("[environment]\nallow_internet = false", "allowed_hosts"),
    ("[environment]", "env"),
    ("[environment]", "healthcheck"),
    ("[environment.healthcheck]\ncommand = 'x'", "retries"),
    ("[environment.healthcheck]\ncommand = 'x'", "interval_sec"),
    ("[environment]", "mcp_servers"),
    ("[[environment.mcp_servers]]\nname = 'x'\nurl = 'y'", "transport"),
    ("[[environment.mcp_servers]]\nname = 'x'\nurl = 'y'", "headers"),
    (
        "[[environment.mcp_servers]]\nname = 'x'\ncommand = 'y'\ntransport = 'stdio'",
        "headers",
    ),
    ("[solution]", "env"),
    ("[[steps]]", "name"),
    ("[[steps]]\nname = 'x'", "min_reward"),
    ("[[steps]]\nname = 'x'", "artifacts"),
    ("[[steps]]\nname = 'x'", "healthcheck"),
    ("[[artifacts]]", "source"),
    ("[[artifacts]]\nsource = '/x'", "destination"),
    ("[[artifacts]]\nsource = '/x'", "service"),
    ("[[artifacts]]\nsource = '/x'", "exclude"),
];

const HOSTS: &[&str] = &[
    "a.com",
    "A.COM.",
    " a.com ",
    "localhost",
    "*.a.com",
    "*.com",
    "*",
    "*a.com",
    "a.*.com",
    "1.2.3.4",
    "*.1.2.3.4",
    "::1",
    "2001:DB8::0:1",
    "[::1]",
    "fe80::1%eth0",
    "10.0.0.0/8",
    "10.0.0.1/8",
    "2001:db8::/32",
    "a.com/x",
    "a.com:443",
    "http://a.com",
    "a_b.com",
    "-a.com",
    "a-.com",
    "a..com",
    "",
    ".",
    "xn--a.com",
    "1.2.3",
    "256.1.1.1",
    "10.0.0.0/33",
    "*.",
    "10.0.0.0/255.0.0.0",
    "10.0.0.0/0.255.255.255",
    "10.0.0.0/+8",
    "10.0.0.0/08",
    "10.0.0.0/",
    "1.2.3.4/32",
];

const STEPS: &[&str] = &[
    "a",
    "a b",
    " a",
    "a ",
    "a.",
    ".",
    "..",
    ".hidden",
    "a/b",
    "a\\b",
    "a:b",
    "CON",
    "con.txt",
    "COM1",
    "COM10",
    "com\u{b9}",
    "LPT0",
    "nul .x",
    "",
    " ",
    "ä",
    "a\u{7f}",
    "a\tb",
    "CONIN$",
    "x?",
];

const SIZES: &[&str] = &[
    "2G", "2g", " 2G ", "0.5G", "512M", "2048K", "2G2", "2GB", "G", "-1G", "1e3M", "2 G", "1.9K", "2048",
];

const WHOLE: &[&str] = &[
    "",
    "version = '1.0'",
    "version = '1.0'\nschema_version = '1.2'",
    "version = 1.0\nschema_version = '1.2'",
    "version = 1.0",
    "artifacts = ['/a', {source = '/b'}]",
    "artifacts = ['../a']",
    "artifacts = ['a/..b']",
    "artifacts = [{source = '/a', destination = '/b'}]",
    "artifacts = [{source = '/a', destination = 'b/../c'}]",
    "artifacts = [{source = '/a', destination = './'}]",
    "artifacts = [{source = '/a', destination = 'b\\c'}]",
    "artifacts = [{source = '/a', destination = 'manifest.json/'}]",
    "artifacts = [{source = '/a', destination = 'x/manifest.json'}]",
    "artifacts = [{source = 'a', service = 'main'}]",
    "artifacts = [{source = 'a', service = ' db '}]",
    "artifacts = [{source = 'C:/a', service = 'db'}]",
    "[verifier]\nenvironment_mode = 'shared'\n[verifier.environment]",
    "[verifier]\nenvironment_mode = 'separate'\n[verifier.environment]\nallow_internet = false",
    "[[steps]]\nname = 'a'\n[steps.verifier.environment]\nallow_internet = false\ncpus = 2.0",
    "[[steps]]\nname = 'a'\n[steps.min_reward]\na = 1\nb = '0.5'",
    "[task]\nname = 'a/b..c'",
    "[task]\nname = 'a/b/c'",
    "[task]\nname = '-a/b'",
    "[task]\nname = 'ä/b'",
    "[task]\nname = 'a/b'\nauthors = [{name = 'x', email = 'y'}, {name = 'z'}]",
    "[task]\nname = 'a/b'\nauthors = [{email = 'y'}]",
    "[environment]\ncpus = inf",
    "[environment]\ncpus = '0.5'",
    "[environment]\ncpus = '2'",
    "[environment]\nmemory = 2",
    "[environment]\nmemory = '2G'\nmemory_mb = '2048'",
    "[environment]\nmemory = '2G'\nmemory_mb = 2048.0",
    "[environment.tpu]\ntype = ''\ntopology = '2x4'",
    "[environment.tpu]\ntype = 'v4'\ntopology = ' 2x2x1 '",
    "[environment.tpu]\ntype = 'v4'\ntopology = '2x04'",
    "[environment.tpu]\ntype = 'v4'\ntopology = '2'",
    "[[environment.mcp_servers]]\nname='x'\ncommand='y'",
    "[[environment.mcp_servers]]\nname='x'\ncommand='y'\ntransport='stdio'",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='Bearer ${A}'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='Bearer ${A:-b}'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='Bearer abc'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='Token ${A}:${B}'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='${A}-'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Authorization='${A:-} ${B}'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Cookie=''}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Max-Tokens='5'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Accept='${1}'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Accept='a ${B:-c} d'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={Accept='${API_KEY:-c}'}",
    "[[environment.mcp_servers]]\nname='x'\nurl='y'\nheaders={'a b'='c'}",
    "[agent]\ntimeout_sec = 1\ntimeout_sec = 2",
    "[agent",
    "a = ",
];
