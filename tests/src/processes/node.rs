//! The parts of the test cluster's one node (tests/cluster), to be stopped and started again.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::child;

/// The node.
#[derive(Debug, Clone)]
pub struct Node {
    folder: PathBuf,
}

impl Node {
    /// Of the cluster whose admin's kubeconfig lies where `tests/cluster/up.sh` puts it.
    pub fn of(kubeconfig: &str) -> anyhow::Result<Self> {
        let folder = Path::new(kubeconfig)
            .ancestors()
            .nth(2)
            .context("a cluster's folder")?;
        ensure!(
            folder.join("pid").is_dir(),
            "{} is no folder of tests/cluster",
            folder.display()
        );
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Sends a signal to a part, e.g. `STOP` to `kubelet`.
    pub fn signal(&self, part: &str, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid(part)?;
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status()?;
        ensure!(sent.success(), "{part} (process {pid}) takes no signal");
        Ok(())
    }

    /// `kill -9`, and its end.
    pub async fn kill(&self, part: &str) -> anyhow::Result<()> {
        let pid = self.pid(part)?;
        child::kill(&pid)?;
        child::gone(&pid).await
    }

    /// Starts again what does not run.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.start_with(&[]).await
    }

    /// Starts the kubelet anew, so that it evicts pods while less than `memory` is free, e.g. `99%`: as on a node that has
    /// run out of it.
    pub async fn evict_below(&self, memory: &str) -> anyhow::Result<()> {
        self.kill("kubelet").await?;
        self.start_with(&[("EVICT_BELOW", memory)]).await
    }

    /// Starts the kubelet anew, as it was.
    pub async fn evict_no_more(&self) -> anyhow::Result<()> {
        self.kill("kubelet").await?;
        self.start().await
    }

    async fn start_with(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let cni = std::fs::read_to_string(self.folder.join("cni/name"))?;
        let up = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/up.sh");
        let mut command = tokio::process::Command::new(up);
        command
            .arg(&self.folder)
            .env("CNI", cni.trim())
            .env_remove("ASSAY_SANDBOX_BIN")
            .envs(settings.iter().copied());
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        Ok(())
    }

    fn pid(&self, part: &str) -> anyhow::Result<String> {
        let file = self.folder.join("pid").join(part);
        let pid = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(pid.trim().to_owned())
    }
}
