//! Tasks of several steps: what the steps share, and what one may not see of another.

use assay_core::{agent::Contract, cause::Cause};

use super::{
    DOCKERFILE,
    world::{Files, World},
};

/// Prints every file where tests and logs are.
const LOOK: &str = "find /tests /logs -type f 2>/dev/null | sort";

#[tokio::test(flavor = "multi_thread")]
async fn steps_share_a_sandbox_and_none_sees_tests_or_logs_of_another() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml = "schema_version = '1.4'\n[[steps]]\nname = 'one'\nmin_reward = 1\n[[steps]]\nname = 'two'\n\
                [[steps]]\nname = 'three'\n";
    let mut files = Files::from([("task.toml", toml), ("environment/Dockerfile", DOCKERFILE)]);
    for (step, score) in [("one", "1"), ("two", "0.5"), ("three", "0")] {
        let test = format!("{LOOK}\nls\necho {score} > /logs/verifier/reward.txt\n");
        files.insert(&format!("steps/{step}/tests/test.sh"), &test);
        files.insert(&format!("steps/{step}/tests/{step}"), "");
        files.insert(&format!("steps/{step}/instruction.md"), "Do it");
        let solve = format!("#!/bin/sh\n{LOOK}\ntouch solved-{step}\n");
        files.insert(&format!("steps/{step}/solution/solve.sh"), &solve);
    }
    // The last one has no setup.
    for step in ["one", "two"] {
        let setup = format!("{LOOK}\ntouch /logs/agent/of-{step}\n");
        files.insert(&format!("steps/{step}/workdir/setup.sh"), &setup);
    }
    let report = world.run(world.assignment(Contract::Oracle, &files)).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(0.5)),
        "{}",
        report.detail
    );
    let said = |phase: &str| -> Vec<String> {
        (0..3)
            .map(|step| world.platform.output(&format!("{step}/{phase}/stdout")))
            .collect()
    };
    assert_eq!(said("setup"), ["", "", ""]);
    assert_eq!(
        said("agent"),
        ["/logs/agent/of-one\n", "/logs/agent/of-two\n", ""]
    );
    assert_eq!(
        said("verify"),
        [
            "/logs/agent/of-one\n/tests/one\n/tests/test.sh\nsetup.sh\nsolved-one\n",
            "/logs/agent/of-two\n/tests/test.sh\n/tests/two\nsetup.sh\nsolved-one\nsolved-two\n",
            "/tests/test.sh\n/tests/three\nsetup.sh\nsolved-one\nsolved-three\nsolved-two\n",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_over_a_later_step_cleans_again_but_not_under_the_agent() {
    let Some(mut world) = World::new().await else {
        return;
    };
    let toml = "schema_version = '1.4'\n[[steps]]\nname = 'one'\n[[steps]]\nname = 'two'\n[steps.healthcheck]\n\
                command = 'echo checking; test -e /tmp/healthy'\ninterval_sec = 0.1\nretries = 10000\n";
    let mut files = Files::from([("task.toml", toml), ("environment/Dockerfile", DOCKERFILE)]);
    for step in ["one", "two"] {
        files.insert(&format!("steps/{step}/instruction.md"), "Wait");
        files.insert(
            &format!("steps/{step}/tests/test.sh"),
            "echo 1 > /logs/verifier/reward.txt\n",
        );
    }
    let run = format!(
        "{LOOK}; touch /logs/agent/own; echo begun; test -e /tmp/healthy || exit 0; \
                       while [ ! -e /tmp/go ]; do sleep 0.1; done; {LOOK}"
    );
    let manifest = format!("name = 'x'\ncontract = 'command'\nrun = ['sh', '-c', '{run}']");
    let mut assignment = world.assignment(Contract::Command, &files);
    assignment.agent = Some(
        world
            .platform
            .archive("agent", &Files::from([("agent.toml", manifest.as_str())])),
    );
    world.platform.give(assignment.clone());
    for (output, text, gate) in [
        ("1/setup/stdout", "checking", "/tmp/healthy"),
        ("1/agent/stdout", "begun", "/tmp/go"),
    ] {
        world.platform.wait_for_output(output, text).await;
        let sandbox = world.hand_over(&mut assignment).await;
        world.touch(sandbox, gate).await;
    }
    let report = world.platform.report().await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(1.0)),
        "{}",
        report.detail
    );
    assert_eq!(
        world.platform.output("1/agent/stdout"),
        "begun\n/logs/agent/own\n"
    );
    assert!(world.sandboxes().await.is_empty(), "a sandbox is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_started_lives_until_the_last_step_though_verifiers_are_elsewhere() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml = "schema_version = '1.4'\nartifacts = ['/app/state']\n[verifier]\nenvironment_mode = 'separate'\n\
                [[steps]]\nname = 'one'\n[[steps]]\nname = 'two'\n";
    let mut files = Files::from([
        ("task.toml", toml),
        ("environment/Dockerfile", DOCKERFILE),
        // It is collected while it writes on, so it never leaves a half-written file.
        (
            "steps/one/solution/solve.sh",
            "#!/bin/sh\n(while :; do date +%s%N > next && mv next state; sleep 0.1; done) &\n\
             until [ -s state ]; do sleep 0.1; done\n",
        ),
        // It answers, or this waits until the deadline.
        (
            "steps/two/solution/solve.sh",
            "#!/bin/sh\nrm -f state\nuntil [ -s state ]; do sleep 0.1; done\necho answered\n",
        ),
    ]);
    for step in ["one", "two"] {
        files.insert(&format!("steps/{step}/instruction.md"), "Serve");
        files.insert(
            &format!("steps/{step}/tests/test.sh"),
            "test -s /app/state && echo 1 > /logs/verifier/reward.txt\n",
        );
    }
    files.insert("task.toml", &format!("{toml}[steps.agent]\ntimeout_sec = 120\n"));
    let report = world.run(world.assignment(Contract::Oracle, &files)).await;
    assert_eq!(
        (report.cause, report.score),
        (Cause::Completed, Some(1.0)),
        "{}",
        report.detail
    );
    assert_eq!(report.verifier_mode.as_deref(), Some("separate"));
    assert_eq!(world.platform.output("1/agent/stdout"), "answered\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_has_its_own_network_and_goes_back_to_the_agents() {
    let Some(world) = World::new().await else {
        return;
    };
    let toml = "schema_version = '1.4'\n[agent]\nnetwork_mode = 'no-network'\n\
                [[steps]]\nname = 'closed'\n[[steps]]\nname = 'open'\n[steps.agent]\nnetwork_mode = 'allowlist'\n\
                allowed_hosts = ['only.example.org']\n[[steps]]\nname = 'again'\n";
    let mut files = Files::from([("task.toml", toml), ("environment/Dockerfile", DOCKERFILE)]);
    // A name that may be reached has an address of the sandbox's own; another one has none.
    let solve = "#!/bin/bash\ngetent hosts only.example.org >/dev/null && echo open || echo closed\n";
    let test = "#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n";
    for step in ["closed", "open", "again"] {
        files.insert(&format!("steps/{step}/tests/test.sh"), test);
        files.insert(&format!("steps/{step}/instruction.md"), "Look it up");
        files.insert(&format!("steps/{step}/solution/solve.sh"), solve);
    }
    let mut assignment = world.assignment(Contract::Oracle, &files);
    assignment.policy.agent_network = assay_core::policy::AgentNetwork::Task;
    let report = world.run(assignment).await;
    assert_eq!(report.cause, Cause::Completed, "{}", report.detail);
    let said: String = (0..3)
        .map(|step| world.platform.output(&format!("{step}/agent/stdout")))
        .collect();
    assert_eq!(said, "closed\nopen\nclosed\n");
}
