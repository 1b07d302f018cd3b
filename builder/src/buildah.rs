//! How Buildah is told what to do: which commands, in which order, and what its last line says about who is at fault.
//!
//! It gets the base images from a layout and leaves the result in one: it never speaks to a registry.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use assay_core::{
    control::build::{RunPlan, killed_by_mistake, path},
    dockerfile::without_heredocs,
};
use assay_registry::{Layout, Reference};

use crate::{
    failure::{Failure, Fault, Purpose},
    fetch,
    layers::Known,
    steps::{Stop, read, run},
};

const RESULT: &str = "assay-result";

/// Words by which the last line of a failed build says that the machine failed. All else is the Dockerfile's.
const OWN_FAULTS: [&str; 5] = [
    "no space left on device",
    "creating overlay mount",
    "creating build container: mounting",
    "read-only file system",
    "input/output error",
];

/// Does everything, in order.
pub(crate) fn make(plan: &RunPlan) -> Result<(), Stop> {
    prepare()?;
    for (number, name) in plan.bases.iter().enumerate() {
        let layout = format!("oci:{}:{}", path::BASES, fetch::name(number));
        let id = read(Purpose::Import, buildah(&["pull", "--quiet", &layout]))?;
        run(Purpose::Import, buildah(&["tag", id.trim(), &full(name)]))?;
    }
    let context = Path::new(path::CONTEXT).join(&plan.folder);
    let file = dockerfile(&context.join(&plan.dockerfile), Path::new(path::STORAGE))?;
    run(Purpose::Build, build(plan, &context, &file))?;
    export()
}

/// Only what the build added is packed.
fn export() -> Result<(), Stop> {
    let bases = Layout::open(path::BASES);
    let known = Known::of(&bases)?;
    let result = known.lay(path::LAYOUT)?;
    let layout = format!("oci:{}:{RESULT}", path::LAYOUT);
    run(Purpose::Export, buildah(&["push", "--quiet", RESULT, &layout]))?;
    Ok(known.settle(&bases, &result)?)
}

/// Folders that it wants to find, and what it reads in place of its host's settings.
fn prepare() -> io::Result<()> {
    for folder in ["home", "tmp"] {
        fs::create_dir_all(own(folder))?;
    }
    fs::write(own("registries.conf"), REGISTRIES)
}

/// A base image's name as the builder looks it up. What is named by digest is found by that, under any tag.
fn full(name: &str) -> String {
    let Some(reference) = Reference::parse(name) else {
        return name.to_owned();
    };
    let tag = if reference.version.contains(':') {
        "assay"
    } else {
        &reference.version
    };
    format!("{}/{}:{tag}", reference.host, reference.repository)
}

/// The file that Buildah reads. Before 1.33 it takes the lines of a here-document for instructions, so a Dockerfile with
/// such is written anew without; one that cannot be read is left for it to judge. What it ignores stands beside its file.
fn dockerfile(given: &Path, storage: &Path) -> io::Result<PathBuf> {
    let Ok(text) = fs::read_to_string(given) else {
        return Ok(given.to_owned());
    };
    let plain = without_heredocs(&text);
    if plain == text {
        return Ok(given.to_owned());
    }
    let rewritten = storage.join("Dockerfile");
    fs::write(&rewritten, plain.as_bytes())?;
    for end in ["containerignore", "dockerignore"] {
        // Mostly there is none, and one that cannot be read is as good as none.
        fs::copy(
            given.with_added_extension(end),
            rewritten.with_added_extension(end),
        )
        .ok();
    }
    Ok(rewritten)
}

fn build(plan: &RunPlan, context: &Path, file: &Path) -> Command {
    let mut command = buildah(&[
        "build",
        "--isolation=chroot",
        "--pull-never",
        "--format=docker",
        "--no-cache",
        "--cap-drop=CAP_NET_RAW",
        "--tag",
        RESULT,
    ]);
    for (name, value) in &plan.args {
        command.arg("--build-arg").arg(format!("{name}={value}"));
    }
    command.arg("--file").arg(file).arg(context);
    command
}

/// Its storage is the pod's own, it takes nothing from anywhere else, and it believes that its user namespace is made.
fn buildah(words: &[&str]) -> Command {
    let mut command = Command::new("buildah");
    command
        .args(["--root", &own("root")])
        .args(["--runroot", &own("run")])
        .args(words)
        .env("HOME", own("home"))
        .env("TMPDIR", own("tmp"))
        .env("XDG_RUNTIME_DIR", own("tmp"))
        .env("CONTAINERS_REGISTRIES_CONF", own("registries.conf"))
        .env("_CONTAINERS_USERNS_CONFIGURED", "done")
        .env("_CONTAINERS_ROOTLESS_UID", "0")
        .env("_CONTAINERS_ROOTLESS_GID", "0");
    command
}

fn own(name: &str) -> String {
    format!("{}/{name}", path::STORAGE)
}

/// Whose fault a failure is. A kill for memory that a build survived was the Dockerfile's own affair.
pub(crate) fn fault(failure: &Failure<'_>) -> Fault {
    let last = failure.log.last();
    if failure.oom && (failure.is_kill() || says_killed(last)) {
        Fault::Memory
    } else if failure.purpose == Purpose::Build && !is_own_fault(last) {
        Fault::Task
    } else {
        Fault::Platform
    }
}

/// It passes on how a step ended: 137 is a kill, and so it says.
fn says_killed(last_line: &str) -> bool {
    last_line.contains("killed") || last_line.contains("exit status 137")
}

/// Does the last line of a failed build speak of the machine?
fn is_own_fault(last_line: &str) -> bool {
    let line = last_line.to_lowercase();
    OWN_FAULTS.iter().any(|words| line.contains(words)) || killed_by_mistake(&line)
}

/// A name without a host is Docker Hub's, as everywhere else here.
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_image_has_its_full_name() {
        assert_eq!(full("debian"), "docker.io/library/debian:latest");
        assert_eq!(full("r:5000/a/b:1"), "r:5000/a/b:1");
        assert_eq!(full("me/tool@sha256:1"), "docker.io/me/tool:assay");
    }

    #[test]
    fn here_documents_are_written_out_and_all_else_is_read_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("storage");
        fs::create_dir(&storage).unwrap();
        let given = folder.path().join("task.Dockerfile");
        assert_eq!(dockerfile(&given, &storage).unwrap(), given, "there is none");
        fs::write(&given, "FROM a\nRUN true\n").unwrap();
        assert_eq!(dockerfile(&given, &storage).unwrap(), given);
        fs::write(&given, "FROM a\nRUN cat > /b <<'END'\nfrom c import d\nEND\n").unwrap();
        fs::write(folder.path().join("task.Dockerfile.dockerignore"), "*.log\n").unwrap();
        let rewritten = dockerfile(&given, &storage).unwrap();
        assert_eq!(rewritten, storage.join("Dockerfile"));
        let text = fs::read_to_string(&rewritten).unwrap();
        assert!(
            text.starts_with("FROM a\nRUN [\"/bin/sh\",\"-c\",\"cat > /b"),
            "{text}"
        );
        assert_eq!(
            fs::read_to_string(storage.join("Dockerfile.dockerignore")).unwrap(),
            "*.log\n"
        );
    }

    #[test]
    fn a_dockerfiles_fault_is_not_the_machines() {
        for line in [
            r#"error building at STEP "RUN exit 7": error while running runtime: exit status 7"#,
            r#"error building at STEP "COPY nothere /": checking on sources under "/assay/context": no such file"#,
            "error: Dockerfile parse error line 2: unknown instruction: RUNN",
        ] {
            assert!(!is_own_fault(line), "{line}");
        }
        for line in [
            "Error: writing layer: write /x: no space left on device",
            r#"error building at STEP "RUN sleep 60": error while running runtime: signal: killed"#,
        ] {
            assert!(is_own_fault(line), "{line}");
        }
    }
}
