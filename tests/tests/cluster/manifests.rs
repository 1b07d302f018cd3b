//! Every manifest as the cluster sees it, the chart beside the kustomizations, and kind's reading of its configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use assay_tests::kubectl::{self, Kubectl};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program that cluster/build.sh makes. `None`, with the reason said, where it is not named.
fn program(variable: &str) -> Option<String> {
    let found = std::env::var_os(variable).and_then(|value| value.into_string().ok());
    if found.is_none() {
        eprintln!("skipped: {variable} is not set (tests/cluster/build.sh)");
    }
    found
}

/// What a kustomization renders.
fn rendered(kubectl: &Kubectl, folder: &Path) -> String {
    let output = kubectl.run(&["kustomize", folder.to_str().unwrap()], None);
    assert!(
        output.status.success(),
        "{}: {}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_cluster_takes_every_overlay() {
    let Some(kubectl) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
        return;
    };
    for overlay in ["kind", "k3s", "production"] {
        let yaml = rendered(&kubectl, &project().join("manifests/overlays").join(overlay));
        // Kinds that other programs bring (KEDA, the Prometheus operator) are known to a cluster that has these.
        let (foreign, ours): (Vec<&str>, Vec<&str>) = yaml
            .split("\n---\n")
            .partition(|object| is_foreign(&kubectl, object));
        assert!(ours.len() > 30, "{overlay} has {} objects", ours.len());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.yaml");
        fs::write(
            &file,
            ours.iter()
                .map(|object| beside(object))
                .collect::<Vec<_>>()
                .join("\n---\n"),
        )
        .unwrap();
        let words = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "-f",
            file.to_str().unwrap(),
        ];
        let output = kubectl.run(&words, None);
        assert!(
            output.status.success(),
            "{overlay}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let taken = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(taken, ours.len(), "{overlay}");
        eprintln!(
            "{overlay}: {taken} objects taken, {} of kinds that this cluster lacks",
            foreign.len()
        );
    }
}

/// No overlay has it: an installation may bring a registry of its own. Its namespace is not there in a dry run.
#[test]
fn the_cluster_takes_the_registry() {
    let Some(kubectl) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let component = project()
        .join("manifests/components/registry")
        .canonicalize()
        .unwrap();
    // Kustomize wants relative paths.
    let up = "../".repeat(folder.path().components().count() - 1);
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [{up}{}]\n",
        component.strip_prefix("/").unwrap().display()
    );
    fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    let yaml = rendered(&kubectl, folder.path()).replace("namespace: assay-registry", "namespace: default");
    let file = folder.path().join("all.yaml");
    fs::write(&file, yaml).unwrap();
    let words = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "-f",
        file.to_str().unwrap(),
    ];
    let taken = kubectl.ok(&words, None).unwrap();
    assert_eq!(taken.lines().count(), 5, "{taken}");
}

/// Is it of a kind that this cluster does not know?
fn is_foreign(kubectl: &Kubectl, object: &str) -> bool {
    ["keda.sh/v1alpha1", "monitoring.coreos.com/v1"]
        .iter()
        .any(|group| {
            object.contains(&format!("apiVersion: {group}\n"))
                && !kubectl
                    .run(&["get", "--raw", &format!("/apis/{group}")], None)
                    .status
                    .success()
        })
}

/// What cannot be changed once it is there (control-plane.sh may have made it) gets another name.
fn beside(object: &str) -> String {
    let fixed = object
        .lines()
        .any(|line| line == "kind: Job" || line == "kind: StatefulSet");
    if fixed {
        object.replacen("\n  name: ", "\n  name: tried-", 1)
    } else {
        object.to_owned()
    }
}

#[test]
fn no_manifest_holds_a_secret() {
    let Some(kubectl) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
        return;
    };
    for overlay in ["kind", "k3s", "production"] {
        let yaml = rendered(&kubectl, &project().join("manifests/overlays").join(overlay));
        let secret = yaml
            .split("\n---\n")
            .find(|object| object.lines().any(|line| line == "kind: Secret"));
        assert!(secret.is_none(), "{overlay}: {secret:?}");
    }
}

#[test]
fn the_images_of_sandboxes_are_told_to_screeners_and_gate_alike() {
    let Some(kubectl) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
        return;
    };
    let yaml = rendered(&kubectl, &project().join("manifests/overlays/production"));
    let value = |key: &str| {
        let line = yaml
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
        line.unwrap_or_else(|| panic!("{key}")).to_owned()
    };
    assert_eq!(
        value("ASSAY_INIT_IMAGE"),
        "registry.example.com/assay/init-iptables"
    );
    assert_eq!(value("init"), value("ASSAY_INIT_IMAGE"));
    assert_eq!(value("proxy"), value("ASSAY_PROXY_IMAGE"));
}

/// The same order and form for all: through kustomize once more.
fn normal(kubectl: &Kubectl, yaml: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("all.yaml"), yaml).unwrap();
    let kustomization = "resources: [all.yaml]\nsortOptions: {order: legacy}\n";
    fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    let all = rendered(kubectl, folder.path());
    all.split("\n---\n")
        .map(|object| object.trim_end().to_owned())
        .collect()
}

#[test]
fn the_chart_renders_the_objects_of_the_kustomizations() {
    let Some(kubectl) = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN") else {
        return;
    };
    let Some(helm) = program("ASSAY_TEST_KUBE_HELM") else {
        return;
    };
    for overlay in ["k3s", "production"] {
        let folder = project().join("manifests/overlays").join(overlay);
        let ours = normal(&kubectl, &rendered(&kubectl, &folder));
        let output = Command::new(&helm)
            .args(["template", "assay", "--kube-version", "1.34.4"])
            .arg(project().join("manifests/chart"))
            .arg("-f")
            .arg(folder.join("values.yaml"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let chart = normal(&kubectl, &String::from_utf8(output.stdout).unwrap());
        assert_eq!(ours.len(), chart.len(), "{overlay}");
        for (ours, chart) in ours.iter().zip(&chart) {
            // The chart names the Job by its image, because a Job cannot be changed.
            let job = chart.lines().find(|line| line.starts_with("  name: migrate-"));
            let chart = job.map_or_else(|| chart.clone(), |line| chart.replace(line, "  name: migrate"));
            assert_eq!(*ours, chart, "{overlay}");
        }
    }
}

#[test]
fn the_chart_refuses_values_that_it_does_not_know() {
    let Some(helm) = program("ASSAY_TEST_KUBE_HELM") else {
        return;
    };
    for (value, words) in [
        ("screeners.replica=3", "replica"),
        ("api.replicas=none", "replicas"),
        ("api.settings.listen=x", "listen"),
    ] {
        let output = Command::new(&helm)
            .args(["template", "assay", "--kube-version", "1.34.4", "--set", value])
            .arg(project().join("manifests/chart"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && told.contains(words),
            "{value}: {told}"
        );
    }
}

/// kind reads and checks its configuration before it asks the engine for the first node, so an engine that knows nothing is
/// enough: a good file gets as far as the node image.
#[test]
fn kind_reads_the_configuration_of_the_cluster() {
    let Some(kind) = program("ASSAY_TEST_KUBE_KIND") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("calls");
    let engine = "#!/bin/sh\necho \"$@\" >>\"$CALLS\"\ncase $1 in info) echo '{}' ;; ps | inspect) ;; *) exit 1 ;; esac\n";
    let docker = folder.path().join("docker");
    fs::write(&docker, engine).unwrap();
    fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let good = fs::read_to_string(project().join("kind/cluster.yaml")).unwrap();
    let read = |yaml: &str| {
        let file = folder.path().join("cluster.yaml");
        fs::write(&file, yaml).unwrap();
        let output = Command::new(&kind)
            .args(["create", "cluster", "--kubeconfig"])
            .arg(folder.path().join("kubeconfig"))
            .arg("--config")
            .arg(&file)
            .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
            .env("KIND_EXPERIMENTAL_PROVIDER", "docker")
            .env("CALLS", &calls)
            .output()
            .unwrap();
        let asked = fs::read_to_string(&calls).unwrap_or_default();
        drop(fs::remove_file(&calls));
        (asked, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (asked, told) = read(&good);
    assert!(asked.contains("kindest/node"), "{told}");
    for (right, wrong) in [
        ("disableDefaultCNI", "disableCNI"),
        ("ipFamily: dual", "ipFamily: both"),
        ("role: worker", "role: helper"),
    ] {
        assert!(good.contains(right));
        let (asked, told) = read(&good.replace(right, wrong));
        assert!(!asked.contains("kindest/node"), "{wrong}: {told}");
    }
}
