//! The cluster's own client, as its tests use it.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The client of the cluster under test.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: String,
    kubeconfig: String,
}

/// With the rights of a screener. `None`, with the reason said, where there is no cluster.
pub fn kubectl() -> Option<Kubectl> {
    with("ASSAY_TEST_KUBERNETES")
}

/// With the kubeconfig that the variable names.
pub fn with(kubeconfig: &str) -> Option<Kubectl> {
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    let (Some(program), Some(kubeconfig)) = (variable("ASSAY_TEST_KUBECTL"), variable(kubeconfig)) else {
        eprintln!("skipped: ASSAY_TEST_KUBECTL (kubectl) or {kubeconfig} is not set");
        return None;
    };
    Some(Kubectl { program, kubeconfig })
}

impl Kubectl {
    /// Runs a command; `object` goes to its standard input.
    pub fn run(&self, words: &[&str], object: Option<&Value>) -> Output {
        let mut child = Command::new(&self.program)
            .args(["--kubeconfig", &self.kubeconfig])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        if let Some(object) = object {
            input.write_all(object.to_string().as_bytes()).unwrap();
        }
        drop(input);
        child.wait_with_output().unwrap()
    }

    /// Would the cluster take this object? Its words where it would not.
    pub fn would_take(&self, object: &Value) -> Result<(), String> {
        let output = self.run(
            &["create", "--dry-run=server", "--validate=false", "-f", "-"],
            Some(object),
        );
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs a command that has to succeed; what it prints.
    pub fn ok(&self, words: &[&str], object: Option<&Value>) -> anyhow::Result<String> {
        let output = self.run(words, object);
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "kubectl {}: {said}", words.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until so many pods of a part of the control plane are ready, e.g. of `deployment/api`: on a busy node one may
    /// miss a look of its kubelet's, and that others have gone is counted a moment later.
    pub fn serves(&self, part: &str, replicas: u32) -> anyhow::Result<()> {
        let ready = format!("--for=jsonpath={{.status.readyReplicas}}={replicas}");
        let words = ["wait", part, "-n", "assay-system", &ready, "--timeout=300s"];
        self.ok(&words, None).map(drop)
    }

    /// Runs a command in the task's container of a run; whether there is one and the command succeeded.
    pub fn in_sandbox(&self, run: impl std::fmt::Display, command: &[&str]) -> bool {
        let label = format!("assay.dev/run={run}");
        let find = ["get", "pods", "-n", "assay-sandboxes", "-l", &label, "-o", "name"];
        let Ok(found) = self.ok(&find, None) else {
            return false;
        };
        let Some(pod) = found.lines().next() else {
            return false;
        };
        let words = ["exec", pod, "-n", "assay-sandboxes", "-c", "main", "--"];
        self.run(&[&words[..], command].concat(), None).status.success()
    }

    /// The program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The kubeconfig that it uses.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }
}
