//! The role `run` with Kaniko, from end to end: namespaces, rights, the registry of the base images, the log, the verdict.
//!
//! Kaniko itself is a scripted stand-in (`kaniko/stand-in.py`): it takes its arguments, ends as it does, and asks of the
//! kernel what it does. What Kaniko makes of a Dockerfile is not tested here.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that fails says where"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use assay_core::{
    control::build::{RunPlan, Tool, Verdict},
    digest::Digest,
};
use assay_registry::{Caps, Descriptor, Layout, architecture, check};

const CONTAINER: &str = include_str!("kaniko/container.sh");
const STAND_IN: &str = include_str!("kaniko/stand-in.py");
const STEP: &str = include_str!("kaniko/step.py");
/// Who unpacks the archive for Kaniko.
const FETCHER: u32 = 65_532;

struct Stage(tempfile::TempDir);

impl Stage {
    fn set(dockerfile: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let stage = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "bases", "layout", "context/environment"] {
            fs::create_dir_all(stage.path(folder)).unwrap();
        }
        // The volumes of a pod are open to all its users.
        for folder in ["", "layout"] {
            fs::set_permissions(stage.path(folder), fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::copy(
            env!("CARGO_BIN_EXE_assay-builder"),
            stage.path("bin/assay-builder"),
        )
        .unwrap();
        fs::write(stage.path("container.sh"), CONTAINER).unwrap();
        fs::write(stage.path("executor"), STAND_IN).unwrap();
        fs::set_permissions(stage.path("executor"), fs::Permissions::from_mode(0o755)).unwrap();
        let context = stage.path("context/environment");
        for (name, text) in [("Dockerfile", dockerfile), ("step.py", STEP)] {
            fs::write(context.join(name), text).unwrap();
            chown(context.join(name), Some(FETCHER), Some(FETCHER)).unwrap();
        }
        base(&Layout::create(stage.path("bases")).unwrap());
        Some(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn plan(limit_ms: u64) -> RunPlan {
        RunPlan {
            tool: Tool::Kaniko,
            folder: "environment".to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            args: [("NAME".to_owned(), "value".to_owned())].into(),
            bases: vec!["base:1".to_owned()],
            network: false,
            limit_ms,
        }
    }

    /// The verdict, and all that was said.
    fn run(&self, plan: &RunPlan) -> (Verdict, String) {
        let output = self.container(&serde_json::to_string(plan).unwrap());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default();
        let verdict: Verdict =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}\n{told}"));
        assert_eq!(output.status.success(), verdict.is_good(), "{text}\n{told}");
        (verdict, text)
    }

    fn container(&self, plan: &str) -> Output {
        Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh"])
            .arg(self.path("container.sh"))
            .arg(self.path(""))
            .arg(self.path("layout"))
            .arg(plan)
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .output()
            .unwrap()
    }
}

/// `base:1`, as `fetch` leaves it.
fn base(layout: &Layout) {
    let put = |bytes: &[u8]| -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(layout.blob(&digest), bytes).unwrap();
        let descriptor = serde_json::json!({ "digest": digest.to_string(), "size": bytes.len() });
        serde_json::from_value(descriptor).unwrap()
    };
    // Two empty blocks are an archive without files.
    let layer = put(&[0; 1024]);
    let config = serde_json::json!({
        "os": "linux", "architecture": architecture(), "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] }, "history": [{ "created_by": "x" }],
    });
    let config = put(config.to_string().as_bytes());
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let image = put(manifest.to_string().as_bytes());
    layout.write_index(&[("base-0".to_owned(), image)]).unwrap();
}

#[test]
fn a_build_has_its_base_its_rights_and_a_result_that_can_be_pushed() {
    let Some(stage) = Stage::set("FROM base:1\nRUN python3 /assay/context/environment/step.py\n") else {
        return;
    };
    let (verdict, log) = stage.run(&Stage::plan(60_000));
    assert_eq!(verdict, Verdict::Done, "{log}");
    assert!(log.contains("a step as it should be"), "{log}");
    let layout = stage.path("layout");
    let caps = Caps {
        layers: 8,
        bytes: 1 << 20,
    };
    let checked = check(&Layout::open(&layout), caps).unwrap();
    assert_eq!(
        checked.kind,
        "application/vnd.docker.distribution.manifest.v2+json"
    );
    assert_eq!(
        checked.blobs.len(),
        3,
        "configuration, the base's layer, and one more"
    );
    readable(&layout);
}

/// By `push`, which is another user.
fn readable(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    let wanted = if path.is_dir() { 0o755 } else { 0o644 };
    assert_eq!(mode & 0o777, wanted, "{}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            readable(&entry.unwrap().path());
        }
    }
}

#[test]
fn a_failing_step_is_told_with_the_end_of_the_log() {
    let Some(stage) = Stage::set("FROM base:1\nRUN echo seen-$((1 + 1)) && exit 7\n") else {
        return;
    };
    let (verdict, log) = stage.run(&Stage::plan(60_000));
    let Verdict::Task { reason } = verdict else {
        panic!("{verdict:?} {log}");
    };
    assert!(
        reason.contains("seen-2") && reason.ends_with("exit status 7"),
        "{reason}"
    );
}

#[test]
fn a_missing_dockerfile_is_told_without_the_text_on_how_kaniko_is_used() {
    let Some(stage) = Stage::set("") else { return };
    let plan = RunPlan {
        dockerfile: "Elsewhere".to_owned(),
        ..Stage::plan(60_000)
    };
    let (verdict, log) = stage.run(&plan);
    let Verdict::Task { reason } = verdict else {
        panic!("{verdict:?} {log}");
    };
    assert!(
        reason.contains("valid path to a Dockerfile") && !reason.contains("Usage"),
        "{reason}"
    );
}

#[test]
fn what_is_ours_is_not_put_onto_the_dockerfile() {
    let Some(stage) = Stage::set("FROM base:1\n") else {
        return;
    };
    let elsewhere = RunPlan {
        folder: "nowhere".to_owned(),
        ..Stage::plan(60_000)
    };
    let unfetched = RunPlan {
        bases: vec!["base:1".to_owned(), "other:1".to_owned()],
        ..Stage::plan(60_000)
    };
    for (plan, word) in [(elsewhere, "nowhere"), (unfetched, "other:1")] {
        let (verdict, log) = stage.run(&plan);
        let Verdict::Platform { message } = verdict else {
            panic!("{verdict:?} {log}");
        };
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_build_that_never_ends_is_ended_and_nobody_of_it_lives_on() {
    let Some(stage) = Stage::set("FROM base:1\nRUN echo began; sleep 600 & sleep 600\n") else {
        return;
    };
    // The container's first process waits for all others before it ends, and with it this call. The step begins in time on a
    // busy machine, too.
    let (verdict, log) = stage.run(&Stage::plan(10_000));
    assert_eq!(verdict, Verdict::TimedOut, "{log}");
    assert!(log.contains("began"), "{log}");
}
