//! Who runs what of a task, by which shell, and what it is told by its environment.

use assay_core::{agent::Contract, cause::Cause};

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
