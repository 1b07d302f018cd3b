//! The control plane that cluster/control-plane.sh has put onto the cluster: its workers are known by the tokens of their pods,
//! and it evaluates.
//!
//! `ASSAY_TEST_KUBE_API` and `ASSAY_TEST_KUBE_KEY` name its address and an administrator's key, `ASSAY_TEST_KUBE_PROGRAMS` the
//! folder of the `assay` command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use assay_core::digest::hex;
use assay_tests::{
    builds::left,
    kubectl::{self, Kubectl},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::Mutex};

/// Its screeners are counted by one test at a time.
pub static ALONE: Mutex<()> = Mutex::const_new(());

/// As `images/postgres/serve.sh` finds its programs and its password.
const ASK_ID: &str = "PGPASSWORD=$(cat \"$POSTGRES_PASSWORD_FILE\") $(ls /usr/lib/postgresql/*/bin/psql | tail -1) -X -tA -h /tmp \
                      -U assay -c 'SELECT id FROM installation' assay";

/// The control plane.
pub struct Installation {
    /// The cluster's client, with every right.
    pub kubectl: Kubectl,
    /// Its address.
    pub api: String,
    /// An administrator's key.
    pub key: String,
    /// The `assay` command.
    pub assay: String,
}

/// From the environment. `None`, with the reason said, where there is none.
pub fn installation() -> Option<Installation> {
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    let named = ["API", "KEY", "PROGRAMS"].map(|name| variable(&format!("ASSAY_TEST_KUBE_{name}")));
    let [Some(api), Some(key), Some(programs)] = named else {
        eprintln!(
            "skipped: ASSAY_TEST_KUBE_API, _KEY and _PROGRAMS are not set (tests/cluster/control-plane.sh)"
        );
        return None;
    };
    Some(Installation {
        kubectl: kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN")?,
        api,
        key,
        assay: format!("{programs}/assay"),
    })
}

impl Installation {
    /// Runs the oracle on the example with an image that is there; as [`Installation::evaluates_task`].
    pub fn evaluates(&self) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        self.evaluates_task(&task_of_an_image(folder.path()))
    }

    /// Runs the oracle, which has to score 1; the run, and what `assay why` says of it.
    fn evaluates_task(&self, task: &Path) -> (String, String) {
        let (ended, told) = self.assay(&["run", task.to_str().unwrap(), "--agent", "oracle"]);
        assert!(ended, "{told}");
        let evaluation: Value = serde_json::from_str(told.lines().last().unwrap())
            .unwrap_or_else(|_| serde_json::from_str(&told).unwrap());
        let run = &evaluation["runs"][0];
        assert_eq!(
            (&run["state"], &run["score"]),
            (&json!("finished"), &json!(1.0)),
            "{evaluation}"
        );
        let run = run["id"].as_str().unwrap().to_owned();
        let (_, why) = self.assay(&["why", &run]);
        (run, why)
    }

    fn assay(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new(&self.assay)
            .args(["--json", "--api", &self.api, "--key", &self.key])
            .args(words)
            .output()
            .unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), told)
    }

    /// The one JSON document that a command of `assay` prints.
    fn document(&self, words: &[&str]) -> Value {
        let (_, told) = self.assay(words);
        let last = told.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{words:?}: {error}: {told}"))
    }

    /// What its objects carry as the label of their owner: only its database tells.
    fn id(&self) -> String {
        let words = [
            "exec",
            "-n",
            "assay-system",
            "postgres-0",
            "--",
            "sh",
            "-c",
            ASK_ID,
        ];
        self.kubectl.ok(&words, None).unwrap().trim().to_owned()
    }

    fn get(&self, words: &[&str]) -> Value {
        let words = [&["get", "-n", "assay-system", "-o", "json"], words].concat();
        let output = self.kubectl.run(&words, None);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

#[test]
fn an_evaluation_runs_on_a_worker_that_is_known_by_its_pod() {
    let Some(installation) = installation() else {
        return;
    };
    let _alone = ALONE.blocking_lock();
    let (_, why) = installation.evaluates();
    assert!(why.contains("screener-1-0"), "{why}");
}

#[test]
fn both_replicas_serve_and_the_schema_was_made_once() {
    let Some(installation) = installation() else {
        return;
    };
    let _alone = ALONE.blocking_lock();
    installation.kubectl.serves("deployment/api", 2).unwrap();
    let migrate = installation.get(&["job", "migrate"]);
    assert_eq!(migrate["status"]["succeeded"], 1, "{}", migrate["status"]);
    for class in ["1", "2"] {
        installation
            .kubectl
            .serves(&format!("statefulset/screener-{class}"), 1)
            .unwrap();
    }
}

#[test]
fn a_task_that_brings_a_dockerfile_is_built_and_evaluated_and_leaves_nothing() {
    let Some(installation) = installation() else {
        return;
    };
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    let dockerfile = format!(
        "FROM debian:bookworm-slim\nRUN echo {} >/built\nWORKDIR /app\n",
        hex(&random)
    );
    let task = task(folder.path(), |_, text| text);
    fs::write(task.join("environment/Dockerfile"), dockerfile).unwrap();
    let (_, why) = installation.evaluates_task(&task);
    assert!(
        why.contains("waiting_image"),
        "the run says what it waits for: {why}"
    );
    let id = installation.id();
    let swept = left::swept(&installation.kubectl, &id);
    Runtime::new().unwrap().block_on(swept).unwrap();
}

/// Who drives a run and who answers for it are both taken away while its agent works: the next ones go on with the same attempt.
#[test]
fn a_screener_and_a_replica_whose_pods_are_deleted_cost_no_attempt() {
    let Some(installation) = installation() else {
        return;
    };
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let task = task_of_an_image(folder.path());
    let solution = task.join("solution/solve.sh");
    let text = fs::read_to_string(&solution).unwrap();
    fs::write(&solution, text.replacen('\n', "\nsleep 20\n", 1)).unwrap();
    let submitted = installation.document(&["submit", task.to_str().unwrap(), "--agent", "oracle"]);
    let evaluation = submitted["id"].as_str().unwrap();
    let begun = Instant::now();
    while installation.document(&["show", evaluation])["runs"][0]["phase"] != "agent" {
        assert!(
            begun.elapsed() < Duration::from_mins(3),
            "its agent does not work"
        );
        sleep(Duration::from_millis(200));
    }
    let replica =
        installation.get(&["pods", "-l", "app.kubernetes.io/name=api"])["items"][0]["metadata"]["name"]
            .clone();
    for pod in ["screener-1-0", replica.as_str().unwrap()] {
        let words = ["delete", "pod", pod, "-n", "assay-system", "--wait=false"];
        installation.kubectl.ok(&words, None).unwrap();
    }
    let ended = installation.document(&["watch", evaluation]);
    let run = &ended["runs"][0];
    assert_eq!(
        (&run["state"], &run["score"], &run["attempts"]),
        (&json!("finished"), &json!(1.0), &json!(1)),
        "{ended}"
    );
    installation.kubectl.serves("deployment/api", 2).unwrap();
    installation.kubectl.serves("statefulset/screener-1", 1).unwrap();
}

fn task_of_an_image(folder: &Path) -> PathBuf {
    task(folder, |name, text| match name {
        "task.toml" => text.replace(
            "[environment]",
            "[environment]\ndocker_image = \"debian:bookworm-slim\"",
        ),
        "solution/solve.sh" => text.replacen('\n', "\nmkdir -p /app && cd /app\n", 1),
        _ => text,
    })
}

/// The example without its environment, and with changes.
fn task(folder: &Path, change: impl Fn(&str, String) -> String) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tasks/hello-file");
    let to = folder.join("hello-file");
    for name in [
        "task.toml",
        "instruction.md",
        "solution/solve.sh",
        "tests/test.sh",
    ] {
        let text = change(name, fs::read_to_string(from.join(name)).unwrap());
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir_all(to.join("environment")).unwrap();
    to
}
