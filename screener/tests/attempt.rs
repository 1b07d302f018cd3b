//! Whole attempts on a real container engine, against a platform that lives in the test.
//!
//! `ASSAY_TEST_DOCKER` names the engine's socket, `ASSAY_SANDBOX_BIN` the folder of the static programs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may fail loudly; where the engine is, only its environment knows"
)]

#[path = "attempt/artifacts.rs"]
mod artifacts;
#[path = "attempt/platform.rs"]
mod platform;
#[path = "attempt/steps.rs"]
mod steps;
#[path = "attempt/users.rs"]
mod users;
#[path = "attempt/world.rs"]
mod world;

use assay_core::{
    agent::Contract,
    cause::Cause,
    secret::{self, SecretValue},
    upstream::Secret,
};
use assay_runtime::telemetry;

use self::world::{Files, World};

const DOCKERFILE: &str = "FROM debian:bookworm-slim\nWORKDIR /app\n";
const TEST: &str = "#!/bin/bash\nif [ \"$(cat answer.txt 2>/dev/null)\" = 42 ]; then echo 1; else echo 0; fi > \
                    /logs/verifier/reward.txt\necho tested\n";

fn task(toml: &str) -> Files {
    Files::from([
        ("task.toml", toml),
        ("instruction.md", "Write 42 into answer.txt"),
        ("environment/Dockerfile", DOCKERFILE),
        ("tests/test.sh", TEST),
        (
            "solution/solve.sh",
            "#!/bin/bash\necho solving\necho 42 > answer.txt\n",
        ),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn oracle_scores_one_and_nop_zero() {
    let Some(world) = World::new().await else {
        return;
    };
    for (contract, score) in [(Contract::Oracle, 1.0), (Contract::Nop, 0.0)] {
        let report = world
            .run(world.assignment(contract, &task("schema_version = '1.4'")))
            .await;
        assert_eq!(
            (report.cause, report.score),
            (Cause::Completed, Some(score)),
            "{}",
            report.detail
        );
        assert_eq!(report.verifier_mode.as_deref(), Some("shared"));
        assert!(world.platform.output("verify/stdout").contains("tested"));
    }
    assert!(world.platform.output("agent/stdout").contains("solving"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_agent_works_where_the_task_says_and_a_planted_reward_is_removed() {
    let Some(world) = World::new().await else {
        return;
    };
    let plant = "printf 7 > /logs/verifier/reward.json; test -s \"$ASSAY_INSTRUCTION\" && pwd; exit 3";
    let manifest = format!(
        "name = 'x'\ncontract = 'command'\ninstall = ['sh', '-c', 'pwd']\nrun = ['sh', '-c', '''{plant}''']"
    );
    let mut assignment = world.assignment(Contract::Command, &task("schema_version = '1.4'"));
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest.as_str())])),
    );
    let report = world.run(assignment).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::AgentFailed, Some(0.0)),
        "{}",
        report.detail
    );
    assert!(world.platform.output("setup/stdout").contains("/installed-agent"));
    assert!(world.platform.output("agent/stdout").contains("/app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_past_its_deadline_is_still_verified() {
    let Some(world) = World::new().await else {
        return;
    };
    let manifest = "name = 'x'\ncontract = 'command'\nrun = ['sh', '-c', 'echo 42 > answer.txt; sleep 1000']";
    let mut assignment = world.assignment(
        Contract::Command,
        &task("schema_version = '1.4'\n[agent]\ntimeout_sec = 15"),
    );
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest)])),
    );
    let report = world.run(assignment).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::AgentTimeout, Some(1.0)),
        "{}",
        report.detail
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_applied_to_a_clean_tree_in_a_fresh_sandbox() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut files = task("schema_version = '1.4'");
    files.insert("environment/Dockerfile", "FROM python:3.12-slim\nWORKDIR /app\n");
    let diff = "--- /dev/null\\n+++ b/answer.txt\\n@@ -0,0 +1 @@\\n+42\\n";
    let agent = format!(
        "def agent_main(input):\n    open('elsewhere.txt', 'w').write('x')\n    assert '42' in input['problem_statement']\n    return \"{diff}\"\n"
    );
    let bundle = Files::from([
        ("agent.toml", "name = 'x'\ncontract = 'patch'"),
        ("agent.py", agent.as_str()),
    ]);
    let mut assignment = world.assignment(Contract::Patch, &files);
    assignment.agent = Some(world.platform.archive("agent", &bundle));
    let report = world.run(assignment).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(1.0)),
        "{}",
        report.detail
    );
    assert_eq!(report.verifier_mode.as_deref(), Some("separate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_attempt_leaves_no_sandbox() {
    let Some(world) = World::new().await else {
        return;
    };
    let manifest = "name = 'x'\ncontract = 'command'\nrun = ['sh', '-c', 'echo begun; sleep 1000']";
    let mut assignment = world.assignment(Contract::Command, &task("schema_version = '1.4'"));
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest)])),
    );
    let attempt = assignment.attempt;
    world.platform.give(assignment);
    world.platform.wait_for_output("agent/stdout", "begun").await;
    let began = std::time::Instant::now();
    world.platform.cancel(attempt);
    let report = world.platform.report().await;
    assert_eq!((report.cause, report.score), (Cause::Cancelled, None));
    assert!(world.sandboxes().await.is_empty(), "a sandbox is left behind");
    assert!(
        began.elapsed().as_secs() < 600,
        "the agent would sleep for longer"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_goes_on_with_the_same_sandbox() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let manifest = "name = 'x'\ncontract = 'command'\nrun = ['sh', '-c', 'echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; \
                    done; echo 42 > answer.txt; echo done']";
    let mut assignment = world.assignment(Contract::Command, &task("schema_version = '1.4'"));
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest)])),
    );
    world.platform.give(assignment.clone());
    world.platform.wait_for_output("agent/stdout", "begun").await;
    // The proxy's records are stored while the agent works, not at its end.
    world.platform.wait_for_output("proxy/audit", "started").await;
    world.platform.wait_for_output("proxy/ledger", "open").await;
    let sandbox = world.hand_over(&mut assignment).await;
    assert_eq!(world.platform.handed_back(), [assignment.attempt]);
    world.touch(sandbox, "/tmp/go").await;
    let report = world.platform.report().await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(1.0)),
        "{}",
        report.detail
    );
    assert_eq!(world.platform.output("agent/stdout"), "begun\ndone\n");
    let audit = world.platform.output("proxy/audit");
    let numbers: Vec<u64> = audit
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    let expected: Vec<u64> = (1..).take(numbers.len()).collect();
    assert!(numbers == expected && audit.contains("\"verify\""), "{audit}");
    assert!(world.sandboxes().await.is_empty(), "a sandbox is left behind");
}

// One thread, so that this subscriber is the driver's, too.
#[tokio::test]
async fn a_line_of_a_driver_says_what_it_is_about() {
    let lines = tempfile::NamedTempFile::new().unwrap();
    let guard = tracing::subscriber::set_default(telemetry::json_lines("info", lines.reopen().unwrap()));
    let Some(world) = World::new().await else {
        return;
    };
    let assignment = world.assignment(Contract::Nop, &task("schema_version = '1.4'"));
    let (run, attempt) = (assignment.run.to_string(), assignment.attempt.to_string());
    world.run(assignment).await;
    drop(guard);
    let text = std::fs::read_to_string(lines.path()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let begins = |line: &&serde_json::Value| line["fields"]["message"] == "attempt begins";
    let of_driver = |line: &&serde_json::Value| {
        begins(line)
            || line["target"]
                .as_str()
                .unwrap()
                .starts_with("assay_screener::driver")
    };
    assert!(lines.iter().any(|line| begins(&line)), "{text}");
    for line in lines.iter().filter(of_driver) {
        let spans = line["spans"].as_array().unwrap();
        let span = spans.iter().find(|span| span["name"] == "attempt").unwrap();
        assert_eq!(
            (&span["run.id"], &span["attempt.id"], &span["fence"]),
            (&run.clone().into(), &attempt.clone().into(), &1.into()),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_told_of_tools_and_a_report_of_single_tests_is_kept() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml = "schema_version = '1.4'\n[environment]\nskills_dir = '/skills'\n[[environment.mcp_servers]]\nname = 'clock'\n\
                transport = 'stdio'\ncommand = '/usr/bin/date'\n";
    let mut files = task(toml);
    let test = "#!/bin/bash\necho '<testsuite><testcase name=\"a\"/><testcase name=\"b\"><failure message=\"no\"/></testcase></testsuite>' \
                > /logs/verifier/junit.xml\necho 0.5 > /logs/verifier/reward.txt\n";
    files.insert("tests/test.sh", test);
    files.insert("trajectory.json", "[before]");
    let manifest = "name = 'x'\ncontract = 'command'\nrun = ['sh', '-c', 'cat $ASSAY_MCP_CONFIG $ASSAY_TRAJECTORY; echo $ASSAY_SKILLS_DIR']";
    let mut assignment = world.assignment(Contract::Command, &files);
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest)])),
    );
    let report = world.run(assignment).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(0.5)),
        "{}",
        report.detail
    );
    let told = world.platform.output("agent/stdout");
    assert!(
        told.contains("\"command\":\"/usr/bin/date\"") && told.ends_with("[before]/skills\n"),
        "{told}"
    );
    let kept = world.platform.artifact("tests.json");
    assert!(kept.contains("\"failed\",\"message\":\"no\""), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_value_is_nowhere_in_the_sandbox_but_its_placeholder_is() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut files = task("schema_version = '1.4'\n[environment.env]\nTOKEN = '${TOKEN}'");
    // In pieces, and told to no program while processes are looked at: the search would find itself.
    let solve = "#!/bin/bash\necho \"told $TOKEN\"\nvalue=the-secret-\nvalue=${value}value-0123456789\n\
                 grep -rlsF \"$value\" /app /assay /etc /logs /run /solution /tmp /var && echo found\n\
                 seen=$(cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n')\n\
                 case $seen in *\"$value\"*) echo found ;; esac\n\
                 echo searched; echo 42 > answer.txt\n";
    files.insert("solution/solve.sh", solve);
    let mut assignment = world.assignment(Contract::Oracle, &files);
    let secret = SecretValue {
        value: Secret::new("the-secret-value-0123456789"),
        host: "api.example.com".parse().unwrap(),
        header: "authorization".to_owned(),
    };
    assignment.secrets.insert("TOKEN".to_owned(), secret);
    let placeholder = secret::placeholder(assignment.run, "TOKEN");
    let report = world.run(assignment).await;
    assert_eq!(report.score, Some(1.0), "{}", report.detail);
    let said = world.platform.output("agent/stdout");
    assert_eq!(said, format!("told {placeholder}\nsearched\n"));
}
