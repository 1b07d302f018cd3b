//! An engine with a small disk of its own, filled at full speed by an agent, a Dockerfile, and past its end.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use assay_core::cause::Cause;
use assay_tests::installation::{
    Installation, Setup,
    files::{shell_agent, task},
};

use crate::home::{expect, oracle_scores_one};

pub async fn is_filled_at_full_speed(home: &Installation) {
    let engine = match SmallEngine::start(home.socket()) {
        Ok(engine) => engine,
        Err(missing) => {
            println!("skipped: a daemon with a small disk: {missing}");
            return;
        }
    };
    let setup = Setup {
        socket: engine.socket.clone(),
        ..Setup::from_env("ASSAY_TEST_DOCKER").unwrap()
    };
    let own = Installation::start(setup).await.unwrap();

    let fill = shell_agent("echo 42 > answer.txt\ncat /dev/zero > /big\nsleep 1000\n");
    let ended = own.run(&limited(256, PATIENT_SEC), Some(&fill)).await.unwrap();
    expect(&ended, Cause::AgentOutOfDisk, Some(1.0), &["of 256 MiB"]);
    oracle_scores_one(&own).await;

    let dockerfile = "FROM debian:bookworm-slim\nRUN cat /dev/zero > /big; sleep 1000\n";
    let ended = own
        .run(
            &limited(256, PATIENT_SEC).with("environment/Dockerfile", dockerfile),
            None,
        )
        .await
        .unwrap();
    expect(
        &ended,
        Cause::ImageBuildFailed,
        None,
        &["environment.storage_mb allows 256"],
    );
    oracle_scores_one(&own).await;

    // Allowed more than there is: nobody's score depends on what comes of it, but everybody goes on.
    let ended = own.run(&limited(100_000, 20), Some(&fill)).await.unwrap();
    assert!(ended.run.cause.is_some(), "{ended:?}");
    // The engine gives the space back in its own time: until then a sandbox may fail, and its run is tried again.
    let ended = own.run(&task(), None).await.unwrap();
    let end = (ended.run.cause, ended.run.score);
    assert_eq!(end, (Some(Cause::Completed), Some(1.0)), "{ended:?}");
    own.stop().await.unwrap();
}

fn limited(storage_mb: u32, agent_sec: u32) -> assay_tests::installation::Files {
    let text = format!(
        "schema_version = \"1.4\"\n[agent]\ntimeout_sec = {agent_sec}\n[environment]\nstorage_mb = {storage_mb}\n\
         build_timeout_sec = {PATIENT_SEC}\n"
    );
    task().with("task.toml", text)
}

/// Who is to be stopped by the disk is not stopped by a deadline, however slow the disk.
const PATIENT_SEC: u32 = 300;

/// A private dockerd whose data lies on a file system in a file.
struct SmallEngine {
    folder: tempfile::TempDir,
    socket: PathBuf,
}

impl SmallEngine {
    /// `Err` says what this machine lacks.
    fn start(images_from: &Path) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("assay-disk-").tempdir_in("/tmp");
        let folder = folder.map_err(|error| error.to_string())?;
        let engine = Self {
            socket: folder.path().join("docker.sock"),
            folder,
        };
        let home = engine.folder.path().display();
        shell(&format!(
            "truncate -s 6G {home}/disk && mkfs.ext4 -q -F {home}/disk && mkdir {home}/data && mount -o loop {home}/disk {home}/data"
        ))?;
        let script = script();
        shell(&format!("{script} start {home}"))?;
        shell(&format!(
            "docker -H unix://{} save debian:bookworm-slim | docker -H unix://{home}/docker.sock load",
            images_from.display()
        ))?;
        Ok(engine)
    }
}

impl Drop for SmallEngine {
    /// Takes the mount away too.
    fn drop(&mut self) {
        let stop = format!("{} stop {}", script(), self.folder.path().display());
        if let Err(error) = shell(&stop) {
            eprintln!("{stop}: {error}");
        }
    }
}

/// Beside another daemon it needs a bridge of its own.
fn script() -> String {
    format!(
        "BRIDGE='assay-disk0 172.30.254.1/24' {}/engines/docker.sh",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn shell(command: &str) -> Result<(), String> {
    let done = Command::new("sh").args(["-c", command]).output();
    let done = done.map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
}
