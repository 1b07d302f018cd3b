//! `assay up` and `assay down` as a person runs them: with the database and object store that come along, and with others.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{
    fs::Permissions, net::TcpListener, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Stdio,
    time::Duration,
};

use assay_cli::up::{
    objects::Objects,
    postgres::{self, Postgres},
};
use assay_tests::installation::{Setup, files::task};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

#[tokio::test(flavor = "multi_thread")]
async fn up_takes_the_next_free_port_and_keeps_what_it_did_until_it_is_purged() {
    let Some(home) = Home::new() else { return };
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let (child, running) = home.up(port).await;
    let api: u16 = running["api"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((port + 1..=port + 20).contains(&api), "{running}");
    let (code, _) = home.assay(&["up", "--port", &port.to_string()]).await;
    assert_eq!(code, Some(78), "only one at a time");
    home.scores_one().await;
    ends(child).await;
    let profile = home.path("config/profiles/local.toml");
    assert_eq!(
        std::fs::metadata(&profile).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let (child, _) = home.up(port).await;
    assert_eq!(home.evaluations().await, 1);
    ends(child).await;
    let (code, said) = home.assay(&["down", "--purge"]).await;
    assert_eq!((code, &said["purged"]), (Some(0), &true.into()));
    assert!(!home.path("state/local").exists() && !profile.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_and_object_store_take_the_place_of_those_that_come_along() {
    let Some(mut home) = Home::new() else { return };
    let database = Postgres::start(&postgres::programs(None).unwrap(), &home.path("database"))
        .await
        .unwrap();
    let objects = Objects::start(&home.path("objects"), "elsewhere").await.unwrap();
    let door = objects.door();
    home.more = vec![
        ("DATABASE_URL", database.url()),
        ("S3_ENDPOINT", format!("http://{}", objects.address)),
        ("S3_BUCKET", "elsewhere".to_owned()),
        ("S3_ACCESS_KEY", door.access_key),
        ("S3_SECRET_KEY", door.secret_key),
    ];
    let (child, _) = home.up(0).await;
    home.scores_one().await;
    ends(child).await;
    for own in ["state/local/postgres", "state/local/objects"] {
        assert!(!home.path(own).exists(), "{own} came along");
    }
    let kept = std::fs::read_dir(home.path("objects/elsewhere")).unwrap().count();
    assert!(kept > 0, "nothing is in the bucket");

    // Another machine's state, the same database: what was done is there.
    std::fs::remove_dir_all(home.path("state")).unwrap();
    let (child, _) = home.up(0).await;
    assert_eq!(home.evaluations().await, 1);
    ends(child).await;
    objects.stop().await;
    database.stop().await;
}

/// A person's home, and what is in their environment.
struct Home {
    folder: tempfile::TempDir,
    setup: Setup,
    more: Vec<(&'static str, String)>,
}

impl Home {
    /// `None`, with the reason, where something is missing.
    fn new() -> Option<Self> {
        let setup = match Setup::from_env("ASSAY_TEST_DOCKER") {
            Ok(setup) => setup,
            Err(missing) => {
                #[expect(clippy::print_stderr, reason = "why a test did not run must be told")]
                {
                    eprintln!("skipped: {missing}");
                }
                return None;
            }
        };
        // The database has a user of its own, who has to pass through.
        let folder = tempfile::Builder::new()
            .prefix("assay-up-")
            .tempdir_in("/tmp")
            .unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        task().store(&folder.path().join("task")).unwrap();
        Some(Self {
            folder,
            setup,
            more: Vec::new(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assay-part"));
        command
            .args(["assay", "--json"])
            .args(words)
            .env("HOME", self.folder.path())
            .env("ASSAY_CONFIG_DIR", self.path("config"))
            .env("ASSAY_STATE_DIR", self.path("state"))
            .env("DOCKER_HOST", format!("unix://{}", self.setup.socket.display()))
            .envs(self.more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The exit code of a command, and the document that it printed.
    async fn assay(&self, words: &[&str]) -> (Option<i32>, Value) {
        let output = self.command(words).output().await.unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), said)
    }

    /// Starts an installation, and what it says once it is ready.
    async fn up(&self, port: u16) -> (Child, Value) {
        let mut command = self.command(&["up", "--port", &port.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("it ended before it was ready");
        (child, serde_json::from_str(&line).unwrap())
    }

    async fn scores_one(&self) {
        let task = self.path("task").display().to_string();
        let (code, ran) = self.assay(&["run", &task, "--agent", "oracle"]).await;
        assert_eq!((code, &ran["runs"][0]["score"]), (Some(0), &1.0.into()), "{ran}");
    }

    async fn evaluations(&self) -> usize {
        let (code, listed) = self.assay(&["list"]).await;
        assert_eq!(code, Some(0), "{listed}");
        listed.as_array().unwrap().len()
    }
}

/// Asks it to end, which it does in order.
async fn ends(mut child: Child) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
}

const PATIENCE: Duration = Duration::from_mins(5);
