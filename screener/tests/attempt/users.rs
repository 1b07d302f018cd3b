//! Who runs what of a task, by which shell, and what it is told by its environment.

use std::collections::BTreeMap;

use assay_core::{
    agent::Contract,
    cause::Cause,
    clock::{Clock as _, SystemClock},
};

use super::world::{Files, World};

/// Says by whom and by which shell it is run, and what it is told.
const WHO: &str = "[[ -n $BASH_VERSION ]] && echo $(id -un) env=$EVERYWHERE,$VERIFIER,$SOLUTION";

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_task_runs_as_its_user_by_bash_with_its_own_environment() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml = format!(
        "schema_version = '1.4'\n\
         [agent]\nuser = 'games'\n\
         [verifier]\nuser = 2\n[verifier.env]\nVERIFIER = 'v'\n\
         [[verifier.collect]]\ncommand = '{WHO}'\n\
         [[verifier.collect]]\ncommand = '{WHO}'\nuser = 'mail'\n\
         [solution.env]\nSOLUTION = 's'\n\
         [environment]\nenv = {{ EVERYWHERE = 'e' }}\n\
         [environment.healthcheck]\ncommand = '{WHO}'\n\
         [[steps]]\nname = 'one'\n[steps.healthcheck]\ncommand = '{WHO}'\n\
         [[steps]]\nname = 'two'\n[steps.agent]\nuser = 'news'\n[steps.healthcheck]\ncommand = '{WHO}'\n"
    );
    let dockerfile = "FROM debian:bookworm-slim\nWORKDIR /app\nRUN chown daemon /app\nUSER daemon\n";
    let mut files = Files::from([
        ("task.toml", toml.as_str()),
        ("environment/Dockerfile", dockerfile),
    ]);
    for step in ["one", "two"] {
        files.insert(&format!("steps/{step}/instruction.md"), "Say who you are");
        files.insert(
            &format!("steps/{step}/tests/test.sh"),
            &format!("{WHO}\necho 1 > /logs/verifier/reward.txt\n"),
        );
        files.insert(
            &format!("steps/{step}/solution/solve.sh"),
            &format!("#!/bin/bash\n{WHO}\n"),
        );
        files.insert(&format!("steps/{step}/workdir/setup.sh"), WHO);
    }
    let report = world.run(world.assignment(Contract::Oracle, &files)).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(1.0)),
        "{}",
        report.detail
    );
    for (output, said) in [
        ("0/health/stdout", "daemon env=e,,\n"),
        ("0/setup/stdout", "games env=e,,\ngames env=e,,\n"),
        ("0/agent/stdout", "games env=e,,s\n"),
        ("0/collect/stdout", "daemon env=e,,\nmail env=e,,\n"),
        ("0/verify/stdout", "bin env=e,v,\n"),
        ("1/setup/stdout", "news env=e,,\nnews env=e,,\n"),
        ("1/agent/stdout", "news env=e,,s\n"),
        ("1/collect/stdout", "daemon env=e,,\nmail env=e,,\n"),
    ] {
        assert_eq!(world.platform.output(output), said, "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_told_its_deadline_its_budget_and_where_it_is() {
    let Some(world) = World::new().await else {
        return;
    };
    let files = Files::from([
        (
            "task.toml",
            "schema_version = '1.4'\n[agent]\ntimeout_sec = 1000\n",
        ),
        ("instruction.md", "Say what you are told"),
        ("environment/Dockerfile", super::DOCKERFILE),
        ("tests/test.sh", "echo 1 > /logs/verifier/reward.txt\n"),
    ]);
    let manifest =
        "name = 'x'\ncontract = 'command'\nrun = ['sh', '-c', 'date +%s; env | grep ^ASSAY_ | sort']";
    let mut assignment = world.assignment(Contract::Command, &files);
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest)])),
    );
    assignment.budget = "1.25".parse().unwrap();
    // A database whose clock is an hour behind: the agent compares with the clock that it sees.
    let behind = jiff::SignedDuration::from_hours(1);
    assignment.now = Some(SystemClock.now() - behind);
    assignment.deadline -= behind;
    let run = assignment.run;
    let report = world.run(assignment).await;
    assert_eq!(report.cause, Cause::Completed, "{}", report.detail);
    let said = world.platform.output("agent/stdout");
    let (now, told) = said.split_once('\n').unwrap();
    let told: BTreeMap<&str, &str> = told.lines().filter_map(|line| line.split_once('=')).collect();
    let left = told["ASSAY_DEADLINE_UNIX"].parse::<i64>().unwrap() - now.parse::<i64>().unwrap();
    // The clocks are an hour apart; the rest is what the phases before took.
    assert!((700..=1000).contains(&left), "{left} s are left");
    assert_eq!(told["ASSAY_BUDGET_USD"], "1.25");
    assert_eq!(told["ASSAY_RUN_ID"], run.to_string());
    assert_eq!(told["ASSAY_USAGE_URL"], "http://127.0.0.1:15088/usage");
    assert_eq!(told["ASSAY_INSTRUCTION"], "/installed-agent/instruction.md");
    assert_eq!(told.len(), 5, "{said}");
}
