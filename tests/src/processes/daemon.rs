//! A Docker daemon of the suite's own, on a bridge of its own, that may be killed and started again.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::Context as _;
use assay_core::id::RunId;

use super::{Gate, Ground, Part, Programs, child};

/// The daemon. Dropping it stops it and removes its bridge.
#[derive(Debug)]
pub struct Daemon {
    /// What stands before it, for screeners.
    pub gate: Gate,
    folder: PathBuf,
    bridge: String,
    gateway: String,
}

impl Daemon {
    /// Starts a daemon with the base image of the fixtures.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        // Process ids differ between suites that run beside this one.
        let number = std::process::id() % 250;
        std::fs::create_dir_all(folder)?;
        let daemon = Self {
            gate: Gate::before(socket(folder), folder.join("gate.sock"))?,
            folder: folder.to_owned(),
            bridge: format!("assay-kill{number}"),
            gateway: format!("172.31.{number}.1"),
        };
        daemon.restart().await?;
        let images = script("base-images.sh");
        let docker = format!("unix://{}", daemon.socket().display());
        checked(
            Command::new(images)
                .env("DOCKER_HOST", docker)
                .env("ONLY", BASE)
                .output()?,
        )?;
        Ok(daemon)
    }

    /// Starts it again on its data.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(script("docker.sh"));
        command.arg("start").arg(&self.folder);
        command.env("BRIDGE", format!("{} {}/24", self.bridge, self.gateway));
        checked(command.output().await?).map(|_| ())
    }

    /// `kill -9` of the daemon, and its end. Its containerd dies with it, the containers do not.
    ///
    /// The pid files go too: until somebody has waited for the dead they look alive, and a daemon that is started again
    /// would take them for that.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let files = ["docker.pid", "exec/containerd/containerd.pid"].map(|name| self.folder.join(name));
        let [daemon, containerd] = files.each_ref().map(std::fs::read_to_string);
        let (daemon, containerd) = (daemon?, containerd?);
        child::kill(daemon.trim())?;
        child::gone(daemon.trim()).await?;
        child::gone(containerd.trim()).await?;
        for file in files {
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    /// The roles of the containers that there are of a run, running or not.
    pub async fn roles(&self, run: RunId) -> anyhow::Result<BTreeSet<String>> {
        let filter = format!("label=assay.dev/run={run}");
        let format = r#"{{.Label "assay.dev/role"}}"#;
        let roles = self
            .docker(["ps", "-a", "--filter", &filter, "--format", format])
            .await?;
        Ok(roles.lines().map(str::to_owned).collect())
    }

    /// What its client prints.
    pub async fn docker<const N: usize>(&self, args: [&str; N]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(args);
        let output = checked(command.output().await?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kill -9` of the first process of every container of a role.
    pub async fn kill_role(&self, role: &str) -> anyhow::Result<()> {
        let filter = format!("label=assay.dev/role={role}");
        let ids = self.docker(["ps", "-q", "--filter", &filter]).await?;
        for id in ids.lines() {
            let pid = self.docker(["inspect", "-f", "{{.State.Pid}}", id]).await?;
            // One that has ended meanwhile has no process: its number 0 would mean our own group of them.
            if pid.trim() != "0" {
                child::kill(pid.trim())?;
            }
        }
        Ok(())
    }

    /// Containers, volumes, networks and network namespaces that are there.
    pub async fn leftovers(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        let containers = self
            .docker(["ps", "-a", "--format", "container {{.Names}} {{.Status}}"])
            .await?;
        found.extend(containers.lines().map(str::to_owned));
        let volumes = self
            .docker(["volume", "ls", "--format", "volume {{.Name}}"])
            .await?;
        found.extend(volumes.lines().map(str::to_owned));
        let networks = self.docker([
            "network",
            "ls",
            "--filter",
            "type=custom",
            "--format",
            "network {{.Name}}",
        ]);
        found.extend(networks.await?.lines().map(str::to_owned));
        let spaces = self.folder.join("exec/netns").display().to_string();
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        found.extend(
            mounts
                .filter(|place| place.starts_with(&spaces))
                .map(|place| format!("namespace {place}")),
        );
        Ok(found)
    }
}

impl Ground for Daemon {
    fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Nothing stands between.
    fn let_to_model(&self, _port: u16) -> anyhow::Result<()> {
        Ok(())
    }

    fn tell(&self, screener: &mut Part, programs: &Programs) {
        screener
            .env("ASSAY_ENGINE_SOCKET", self.gate.socket())
            .env("ASSAY_SANDBOX_BIN", &programs.sandbox);
    }

    fn log(&self) -> String {
        child::tail(&self.folder.join("docker.log"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let stopped = Command::new(script("docker.sh"))
            .arg("stop")
            .arg(&self.folder)
            .env("BRIDGE", format!("{} {}/24", self.bridge, self.gateway))
            .output();
        if let Err(error) = stopped {
            eprintln!("the daemon in {} stays: {error}", self.folder.display());
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("docker.sock")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engines").join(name)
}

fn checked(output: Output) -> anyhow::Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(anyhow::anyhow!(said)).context(format!("{}", output.status))
}

/// What the fixtures' Dockerfiles begin with.
const BASE: &str = "debian:bookworm-slim";
