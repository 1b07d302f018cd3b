//! Every command of `assay` as a person runs it: a process of its own, before a whole installation with real containers.
//!
//! With `--json` every line that it prints is a document, and without it none is. `up` and `down` are in `up.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use assay_core::wire::people::{NewKey, Scope};
use assay_tests::installation::{
    Installation, Setup,
    files::{patch_agent, python_task, shell_agent, task},
};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn each_command_does_what_it_says() {
    let setup = match Setup::from_env("ASSAY_TEST_DOCKER") {
        Ok(setup) => setup,
        #[expect(clippy::print_stderr, reason = "why a test did not run must be told")]
        Err(missing) => return eprintln!("skipped: {missing}"),
    };
    let desk = Desk {
        home: Installation::start(setup).await.unwrap(),
        folder: tempfile::tempdir().unwrap(),
    };
    a_key_opens_what_its_profile_keeps(&desk).await;
    what_init_makes_runs_as_it_stands(&desk).await;
    a_run_is_told_by_each_command(&desk).await;
    a_patch_and_artifacts_are_fetched(&desk).await;
    a_run_that_is_cancelled_ends(&desk).await;
    this_machine_is_looked_at(&desk).await;
    desk.home.stop().await.unwrap();
}

/// A person before an installation, with a home of their own.
struct Desk {
    home: Installation,
    folder: tempfile::TempDir,
}

/// How a command ended, and what it printed.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "code {:?}\n{}{}", self.code, self.out, self.err)
    }
}

impl Desk {
    /// Runs a command with the stored profile.
    async fn assay(&self, words: &[&str]) -> Said {
        self.with(&[], words).await
    }

    /// Runs a command with more in its environment.
    async fn with(&self, more: &[(&str, &str)], words: &[&str]) -> Said {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_assay-part"));
        command
            .arg("assay")
            .args(words)
            .env("HOME", self.folder.path())
            .env("DOCKER_HOST", format!("unix://{}", self.home.socket().display()))
            .env_remove("XDG_CONFIG_HOME")
            .envs(more.iter().copied())
            .stdin(std::process::Stdio::null());
        let output = command.output().await.unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The documents of a command that has to succeed; the same without `--json` has to succeed too, as text.
    async fn both(&self, words: &[&str]) -> Vec<Value> {
        let text = self.assay(words).await;
        assert_eq!(text.code, Some(0), "{words:?}: {text:?}");
        assert!(!text.out.trim().is_empty(), "{words:?} says nothing");
        assert!(serde_json::from_str::<Value>(&text.out).is_err(), "{text:?}");
        self.json(words).await
    }

    /// The documents of a command that has to succeed.
    async fn json(&self, words: &[&str]) -> Vec<Value> {
        let said = self.assay(&[words, &["--json"]].concat()).await;
        assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
        said.documents()
    }

    /// A path in this person's home.
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

impl Said {
    fn documents(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
            .collect()
    }
}

async fn a_key_opens_what_its_profile_keeps(desk: &Desk) {
    let nobody = desk.assay(&["list"]).await;
    assert_eq!(nobody.code, Some(78), "no profile yet: {nobody:?}");
    let api = desk.home.api.address();
    let new = NewKey {
        name: "admin".to_owned(),
        scope: Scope::Admin,
        worker_class: None,
    };
    let admin = desk.home.api.create_key(&new).await.unwrap().secret;
    let as_admin = [("ASSAY_API", api), ("ASSAY_KEY", admin.as_str())];
    let made = desk.with(&as_admin, &["key", "create", "me", "--json"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let secret = made.documents()[0]["secret"].as_str().unwrap().to_owned();

    let wrong = desk.with(&[("ASSAY_KEY", "not a key")], &["login", api]).await;
    assert_eq!(wrong.code, Some(77), "{wrong:?}");
    let login = desk
        .with(&[("ASSAY_KEY", &secret)], &["login", api, "--json"])
        .await;
    assert_eq!(login.code, Some(0), "{login:?}");
    let profile = PathBuf::from(login.documents()[0]["profile"].as_str().unwrap());
    assert_eq!(
        std::fs::metadata(&profile).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let empty = desk.json(&["list"]).await;
    assert_eq!(empty, [serde_json::json!([])]);

    // Only an admin makes and revokes keys.
    let refused = desk.assay(&["key", "create", "another"]).await;
    assert_eq!(refused.code, Some(77), "{refused:?}");
    let second = desk.with(&as_admin, &["key", "create", "second"]).await;
    let revoked = desk.with(&as_admin, &["key", "revoke", "second", "--json"]).await;
    assert_eq!(revoked.documents()[0]["keys"], 1, "{revoked:?}");
    let closed = desk.with(&[("ASSAY_KEY", second.out.trim())], &["list"]).await;
    assert_eq!(closed.code, Some(77), "{closed:?}");
}

async fn what_init_makes_runs_as_it_stands(desk: &Desk) {
    let (task, command, patch) = (desk.path("greet"), desk.path("by-command"), desk.path("by-patch"));
    let made = desk.json(&["task", "init", &task]).await;
    assert_eq!(
        (&made[0]["name"], &made[0]["folder"]),
        (&"greet".into(), &task.clone().into())
    );
    let again = desk.assay(&["task", "init", &task]).await;
    assert_eq!(again.code, Some(73), "{again:?}");
    let facts = desk.both(&["task", "check", "--static", &task]).await;
    assert_eq!(
        (&facts[0]["warnings"], &facts[0]["limits"]["memory_mb"]),
        (&serde_json::json!([]), &512.into())
    );
    let proven = desk.json(&["task", "check", &task]).await;
    assert_eq!(
        (&proven[0]["oracle"]["score"], &proven[0]["nop"]["score"]),
        (&1.0.into(), &0.0.into())
    );
    assert_eq!(proven[0]["limits"], facts[0]["limits"]);

    for (agent, contract) in [(&command, "command"), (&patch, "patch")] {
        desk.json(&["agent", "init", agent, "--contract", contract]).await;
        let checked = desk.both(&["agent", "check", agent]).await;
        assert_eq!(checked[0]["contract"], contract);
    }
    let ran = desk.json(&["run", &task, "--agent", &command]).await;
    assert_eq!(
        (&ran[0]["runs"][0]["cause"], &ran[0]["runs"][0]["score"]),
        (&"completed".into(), &0.0.into())
    );
    // A patch agent is Python, so the task's image has to have it.
    let task = desk.path("in-python");
    python_task().store(task.as_ref()).unwrap();
    let ran = desk.json(&["run", &task, "--agent", &patch]).await;
    let run = ran[0]["runs"][0]["id"].as_str().unwrap();
    assert_eq!(ran[0]["runs"][0]["cause"], "completed", "{ran:?}");
    let left = desk.json(&["get", run, "--patch"]).await;
    assert!(
        left[0]["patch"].as_str().unwrap().contains("AGENT_NOTE.md"),
        "{left:?}"
    );
}

async fn a_run_is_told_by_each_command(desk: &Desk) {
    let (folder, agent) = (desk.path("answer"), desk.path("shell"));
    task().store(folder.as_ref()).unwrap();
    shell_agent("echo a word; echo another >&2; getent hosts denied.example; echo 42 > answer.txt\n")
        .store(agent.as_ref())
        .unwrap();
    let submitted = desk.json(&["submit", &folder, "--agent", &agent]).await;
    let evaluation = submitted[0]["id"].as_str().unwrap();
    let watched = desk.json(&["watch", evaluation]).await;
    let run = watched[0]["runs"][0]["id"].as_str().unwrap();
    assert_eq!(watched[0]["runs"][0]["score"], 1.0, "{watched:?}");

    let shown = desk.both(&["show", evaluation]).await;
    assert_eq!(shown[0]["runs"], watched[0]["runs"]);
    let listed = desk.both(&["list", "-n", "1"]).await;
    assert_eq!(listed[0][0]["id"], evaluation);
    let why = desk.both(&["why", run]).await;
    assert!(why[0].to_string().contains("completed"), "{why:?}");
    let printed = desk
        .assay(&["logs", run, "--phase", "agent", "--stream", "stdout"])
        .await;
    assert_eq!(printed.out.lines().next_back(), Some("a word"), "{printed:?}");
    let printed = desk.json(&["logs", "-f", run]).await;
    let words: Vec<_> = printed.iter().map(Value::to_string).collect();
    assert!(words.iter().any(|line| line.contains("another")), "{words:?}");
    let audit = desk.both(&["logs", run, "--proxy"]).await;
    let denied = |line: &Value| line["decision"] == "deny" && line.to_string().contains("denied.example");
    assert!(audit.iter().any(denied), "{audit:?}");
    let verified = desk.both(&["audit", "verify", run]).await;
    assert_eq!(verified.len(), 1, "{verified:?}");

    let wrong = desk.assay(&["why", evaluation]).await;
    assert_eq!(wrong.code, Some(66), "an evaluation is no run: {wrong:?}");
}

async fn a_patch_and_artifacts_are_fetched(desk: &Desk) {
    let (folder, agent) = (desk.path("patched"), desk.path("diff"));
    python_task().store(folder.as_ref()).unwrap();
    patch_agent(DIFF).store(agent.as_ref()).unwrap();
    let ran = desk.json(&["run", &folder, "--agent", &agent]).await;
    let run = ran[0]["runs"][0]["id"].as_str().unwrap();
    assert_eq!(ran[0]["runs"][0]["score"], 1.0, "{ran:?}");
    let patch = desk.assay(&["get", run, "--patch"]).await;
    assert!(patch.out.contains("+42"), "{patch:?}");
    let names = desk.both(&["get", run]).await;
    assert!(names[0].to_string().contains("patch.diff"), "{names:?}");

    let out = desk.path("out");
    let written = desk.json(&["get", run, "--artifacts", &out]).await;
    let paths: Vec<_> = written[0].as_array().unwrap().iter().collect();
    assert_eq!(paths.len(), names[0].as_array().unwrap().len());
    let file = std::fs::read_to_string(format!("{out}/patch.diff")).unwrap();
    assert_eq!(file, patch.out);
    let twice = desk.assay(&["get", run, "--artifacts", &out]).await;
    assert_eq!(twice.code, Some(73), "nothing is overwritten: {twice:?}");
}

async fn a_run_that_is_cancelled_ends(desk: &Desk) {
    let (folder, agent) = (desk.path("answer"), desk.path("waits"));
    shell_agent("echo begun; sleep 600\n")
        .store(agent.as_ref())
        .unwrap();
    let submitted = desk.json(&["submit", &folder, "--agent", &agent]).await;
    let evaluation = submitted[0]["id"].as_str().unwrap().to_owned();
    let waiting = desk.json(&["show", &evaluation]).await;
    let run = waiting[0]["runs"][0]["id"].as_str().unwrap().to_owned();
    // Whoever follows is told of what is printed, and of the end.
    let followed = async { desk.assay(&["logs", "-f", &run, "--phase", "agent"]).await };
    let cancelled = async {
        while !desk.assay(&["logs", &run]).await.out.contains("begun") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        desk.json(&["cancel", &evaluation]).await
    };
    let (followed, cancelled) = tokio::join!(followed, cancelled);
    assert!(followed.out.contains("begun"), "{followed:?}");
    assert_eq!(cancelled[0]["id"], evaluation);
    let watched = desk.assay(&["watch", &evaluation, "--json"]).await;
    assert_eq!(
        watched.documents()[0]["runs"][0]["state"],
        "cancelled",
        "{watched:?}"
    );
    let again = desk.assay(&["cancel", &run]).await;
    assert_eq!(again.code, Some(0), "what is cancelled stays so: {again:?}");
}

async fn this_machine_is_looked_at(desk: &Desk) {
    let findings = desk.both(&["doctor"]).await;
    let findings = findings[0].as_array().unwrap();
    assert!(
        findings.iter().all(|finding| finding["ok"] == true),
        "{findings:?}"
    );
    let tried = desk.json(&["doctor", "--sandbox"]).await;
    let report = &tried[0];
    let tried = report["tried"].as_array().unwrap();
    assert!(tried.len() > 50, "{tried:?}");
    assert!(tried.iter().all(|found| found["verdict"] != "open"), "{tried:?}");
    let left = report["not_tried"].as_array().unwrap();
    assert!(left.iter().all(|left| left["rows"][0].is_string()), "{left:?}");
}

/// Answers with the patch that solves the task.
const DIFF: &str = r#"
def agent_main(input):
    return "--- /dev/null\n+++ b/answer.txt\n@@ -0,0 +1 @@\n+42\n"
"#;
