use super::*;
use crate::{
    archive::{Caps, scan},
    task::Task,
};

/// A task's folder on disk, made of (name, content).
#[expect(clippy::unwrap_in_result, reason = "a test's own preparations cannot fail")]
fn read(files: &[(&str, &str)]) -> Result<Task, InvalidTask> {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let full = root.path().join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(full, content).unwrap();
    }
    Task::read(&scan(root.path(), Caps::default()).unwrap(), "folder")
}

const TOML: (&str, &str) = ("task.toml", "");
const INSTRUCTION: (&str, &str) = ("instruction.md", "Do it.\n");
const DOCKERFILE: (&str, &str) = ("environment/Dockerfile", "FROM x");
const TEST: (&str, &str) = ("tests/test.sh", "true");

#[test]
fn a_plain_folder_is_a_task() {
    let task = read(&[TOML, INSTRUCTION, DOCKERFILE, TEST, ("solution/solve.sh", "")]).unwrap();
    assert_eq!((task.name.as_str(), task.steps.len()), ("folder", 1));
    assert_eq!(task.steps[0].instruction, "Do it.\n");
    assert_eq!(task.steps[0].tests, ["tests"]);
    assert_eq!(task.steps[0].solution.as_deref(), Some("solution"));
    assert!(task.has_dockerfile && !task.uploads_environment);
}

#[test]
fn what_is_missing_is_named() {
    for (files, path) in [
        (vec![INSTRUCTION, DOCKERFILE, TEST], "task.toml"),
        (vec![TOML, DOCKERFILE, TEST], "instruction.md"),
        (vec![TOML, INSTRUCTION, TEST], "environment/Dockerfile"),
        (vec![TOML, INSTRUCTION, DOCKERFILE], "tests/test.sh"),
        (
            vec![TOML, INSTRUCTION, DOCKERFILE, ("tests/test.bat", "")],
            "tests/test.sh",
        ),
        (
            vec![
                TOML,
                INSTRUCTION,
                DOCKERFILE,
                TEST,
                ("tests/.harborignore", "*.sh"),
            ],
            "tests/test.sh",
        ),
        (
            vec![("task.toml", "[[steps]]\nname='a'"), DOCKERFILE, TEST],
            "steps/a/instruction.md",
        ),
        (
            vec![
                ("task.toml", "[[steps]]\nname='a'"),
                DOCKERFILE,
                ("steps/a/instruction.md", "x"),
            ],
            "steps/a/tests/test.sh",
        ),
    ] {
        match read(&files) {
            Err(InvalidTask::Missing { path: missing, .. }) => assert_eq!(missing, path),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn an_image_made_elsewhere_needs_no_dockerfile() {
    let toml = ("task.toml", "[environment]\ndocker_image = 'x'");
    let task = read(&[toml, INSTRUCTION, TEST, ("environment/data.csv", "")]).unwrap();
    assert!(!task.has_dockerfile && task.uploads_environment);
}

#[test]
fn a_verifiers_image_bundles_the_tests() {
    let separate = ("task.toml", "[verifier]\nenvironment_mode = 'separate'");
    let task = read(&[separate, INSTRUCTION, DOCKERFILE, ("tests/Dockerfile", "")]).unwrap();
    assert_eq!(
        (task.steps[0].tests.len(), task.steps[0].verifier_image.as_deref()),
        (0, Some("tests"))
    );
    let own = ("task.toml", "[verifier.environment]\ndocker_image = 'x'");
    assert!(read(&[own, INSTRUCTION, DOCKERFILE]).is_ok());
    assert!(read(&[TOML, INSTRUCTION, DOCKERFILE, ("tests/Dockerfile", "")]).is_err());
}

#[test]
fn steps_have_their_own_parts_over_the_shared_ones() {
    let toml = ("task.toml", "[[steps]]\nname='a'\n[[steps]]\nname='b'");
    let task = read(&[
        toml,
        DOCKERFILE,
        TEST,
        ("steps/a/instruction.md", "A"),
        ("steps/a/workdir/setup.sh", ""),
        ("steps/b/instruction.md", "B"),
        ("steps/b/tests/test.sh", ""),
        ("steps/b/solution/solve.sh", ""),
    ])
    .unwrap();
    let [a, b] = &task.steps[..] else {
        panic!("{task:?}")
    };
    assert_eq!(
        (a.workdir.as_deref(), a.has_setup),
        (Some("steps/a/workdir"), true)
    );
    assert_eq!(a.tests, ["tests"]);
    assert_eq!(b.tests, ["tests", "steps/b/tests"]);
    assert_eq!(b.solution.as_deref(), Some("steps/b/solution"));
}

#[test]
fn what_is_not_done_here_is_refused_by_its_key() {
    for (toml, key) in [
        ("[environment]\nos = 'WINDOWS'", "environment.os"),
        ("[environment.tpu]\ntype='v6e'\ntopology='2x2'", "environment.tpu"),
        (
            "[[environment.mcp_servers]]\nname='x'\nurl='http://tools:8000'",
            "environment.mcp_servers[0].url",
        ),
        (
            "[verifier.environment]\nos = 'windows'",
            "verifier.environment.os",
        ),
        (
            "[environment]\nnetwork_mode='allowlist'\nallowed_hosts=['1.2.3.4']",
            "environment.allowed_hosts[0]",
        ),
        (
            "[agent]\nnetwork_mode='allowlist'\nallowed_hosts=['a.org', '10.0.0.0/8']",
            "agent.allowed_hosts[1]",
        ),
        (
            "[verifier]\nnetwork_mode='allowlist'\nallowed_hosts=['localhost']",
            "verifier.allowed_hosts[0]",
        ),
        (
            "[[verifier.collect]]\ncommand='x'\nservice='db'",
            "verifier.collect[0].service",
        ),
        (
            "artifacts = [{source='/x', service='db'}]",
            "artifacts[0].service",
        ),
    ] {
        match read(&[("task.toml", toml), INSTRUCTION, DOCKERFILE, TEST]) {
            Err(InvalidTask::Unsupported { key: refused, .. }) => assert_eq!(refused, key),
            other => panic!("{toml}: {other:?}"),
        }
    }
}

#[test]
fn a_task_that_needs_gpus_is_taken_with_a_word_about_them() {
    for (toml, warned) in [
        ("[environment]\ngpus = 1", true),
        ("[verifier.environment]\ngpus = 2", true),
        ("[environment]\ngpus = 0\ngpu_types = ['H100']", false),
    ] {
        let task = read(&[("task.toml", toml), INSTRUCTION, DOCKERFILE, TEST]).unwrap();
        let found = task.warnings.iter().any(|warning| warning.rule == "needs-gpus");
        assert_eq!(found, warned, "{toml}: {:?}", task.warnings);
    }
}

#[test]
fn services_make_their_names_known_to_the_task() {
    let compose = (
        "environment/docker-compose.yaml",
        "services: {tools: {image: x}, main: {environment: {A: 1}}}",
    );
    let toml = (
        "task.toml",
        "[[environment.mcp_servers]]\nname='x'\nurl='http://tools:8000'",
    );
    let task = read(&[toml, INSTRUCTION, DOCKERFILE, TEST, compose]).unwrap();
    assert!(task.compose.has("tools"));
    let prebuilt = ("task.toml", "[environment]\ndocker_image = 'x'");
    let task = read(&[prebuilt, INSTRUCTION, TEST, compose]).unwrap();
    assert!(
        !task.uploads_environment,
        "the loose files belong to the services"
    );
}

#[test]
fn a_verifiers_services_stand_beside_its_own_dockerfile() {
    let compose = ("tests/docker-compose.yaml", "services: {db: {image: x}}");
    let error = read(&[TOML, INSTRUCTION, DOCKERFILE, TEST, compose]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("tests/docker-compose.yaml: only a separate verifier"),
        "{error}"
    );
    let separate = ("task.toml", "[verifier]\nenvironment_mode = 'separate'");
    let files = [
        separate,
        INSTRUCTION,
        DOCKERFILE,
        ("tests/Dockerfile", ""),
        compose,
    ];
    let task = read(&files).unwrap();
    assert!(task.steps[0].verifier_compose.has("db") && task.compose.services.is_empty());
}

#[test]
fn canaries_are_not_shown_to_agents() {
    for (text, want) in [
        ("<!-- Canary GUID 1 -->\n# CANARY 2\n\n\nDo it.", "Do it."),
        ("# Title\n<!-- canary -->", "# Title\n<!-- canary -->"),
        ("\n<!-- canary -->\nx", "<!-- canary -->\nx"),
        ("canary\nx", "canary\nx"),
        ("x", "x"),
        ("", ""),
    ] {
        assert_eq!(without_canary(text), want, "{text:?}");
    }
}
