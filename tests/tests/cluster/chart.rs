//! The chart, installed by real Helm on a cluster that has nothing of ours: it evaluates, takes an upgrade and gives it back,
//! and leaves nothing behind.
//!
//! `ASSAY_TEST_KUBE_EMPTY` says that nothing of ours is there: cluster/run.sh does this before everything else.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use assay_tests::kubectl::{self, Kubectl};

use super::control_plane::Installation;

/// One release.
struct Release {
    helm: String,
    kubectl: Kubectl,
    program: String,
}

#[test]
fn helm_installs_the_chart_changes_it_and_removes_it() {
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    let named = ["EMPTY", "HELM", "PROGRAMS"].map(|name| variable(&format!("ASSAY_TEST_KUBE_{name}")));
    let [Some(_), Some(helm), Some(programs)] = named else {
        eprintln!("skipped: ASSAY_TEST_KUBE_EMPTY, _HELM and _PROGRAMS are not set (tests/cluster/run.sh)");
        return;
    };
    let Some(kubectl) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
        return;
    };
    let release = Release {
        helm,
        program: variable("ASSAY_TEST_KUBECTL").unwrap(),
        kubectl,
    };
    let installation = release.install(&programs);
    let (run, why) = installation.evaluates();
    assert!(why.contains("screener-1-0"), "{run}: {why}");
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/chart");
    release.helm(&[
        "upgrade",
        "assay",
        chart,
        "--reuse-values",
        "--set",
        "api.replicas=3",
    ]);
    release.kubectl.serves("deployment/api", 3).unwrap();
    release.helm(&["rollback", "assay", "1"]);
    release.kubectl.serves("deployment/api", 2).unwrap();
    release.uninstall();
}

impl Release {
    /// As docs/OPERATIONS.md tells it: namespaces and Secrets, then the chart.
    fn install(&self, programs: &str) -> Installation {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/control-plane.sh");
        let registry = std::env::var_os("ASSAY_TEST_REGISTRY").unwrap();
        let output = Command::new(script)
            .args([&self.program, self.kubectl.kubeconfig()])
            .arg(registry)
            .arg(programs)
            .env("ASSAY_HELM", &self.helm)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let [api, key] = told.lines().collect::<Vec<_>>()[..] else {
            panic!("{} {told}", output.status);
        };
        Installation {
            kubectl: self.kubectl.clone(),
            api: api.to_owned(),
            key: key.to_owned(),
            assay: format!("{programs}/assay"),
        }
    }

    fn helm(&self, words: &[&str]) {
        let render = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/overlay/render.sh");
        let renders = words.first() == Some(&"upgrade");
        let more: &[&str] = if renders {
            &["--post-renderer", render]
        } else {
            &[]
        };
        let output = Command::new(&self.helm)
            .args([
                "--kubeconfig",
                self.kubectl.kubeconfig(),
                "--namespace",
                "default",
            ])
            .args(words)
            .args(more)
            .args(["--wait", "--timeout", "10m"])
            .env("KUBECTL", &self.program)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
    }

    /// Nothing that Helm made is left, in our namespaces or in none.
    fn uninstall(&self) {
        self.helm(&["uninstall", "assay"]);
        for namespace in ["assay-system", "assay-sandboxes", "assay-builds"] {
            let name = format!("namespace/{namespace}");
            self.kubectl
                .ok(&["wait", "--for=delete", &name, "--timeout=300s"], None)
                .unwrap();
        }
        for kind in self.kinds().lines() {
            let words = [
                "get",
                kind,
                "-l",
                "app.kubernetes.io/managed-by=Helm",
                "-o",
                "name",
            ];
            let left = self.kubectl.ok(&words, None).unwrap();
            assert_eq!(left, "", "{kind}");
        }
    }

    /// All kinds without a namespace. KEDA serves one of the groups by itself, and the list fails while that does not answer.
    fn kinds(&self) -> String {
        let words = [
            "api-resources",
            "--verbs=list",
            "-o",
            "name",
            "--namespaced=false",
        ];
        let begun = Instant::now();
        loop {
            match self.kubectl.ok(&words, None) {
                Ok(kinds) => return kinds,
                Err(error) => assert!(begun.elapsed() < Duration::from_mins(3), "{error:#}"),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
