//! How Kaniko's executor is told what to do, and what it may do.
//!
//! It takes base images from registries only, so we serve it one on loopback, and it never hears of another. Its root is
//! its container's own: it unpacks the base over it, runs the steps there, and looks for what has changed.

mod bases;
mod fault;

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use assay_core::control::build::{RunPlan, path};
use assay_registry::{Layout, architecture};
use caps::Capability;

use self::bases::Bases;
pub(crate) use self::fault::{fault, last_word, reason};
use crate::{
    failure::Purpose,
    steps::{Stop, run},
};

/// Where its image has it.
const EXECUTOR: &str = "/kaniko/executor";

/// All that it and the steps have in their user namespace. The first five are what it needs for ordinary images: owners
/// of files, files of others, `USER`. The rest is what packages expect and Docker gives too.
const KEPT: &[Capability] = &[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_FSETID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SYS_CHROOT,
];

/// Behaviour that it has behind switches, and why we want it.
const SWITCHES: [(&str, &str); 2] = [
    // `COPY` gives files to root, as the format says, and not to whoever unpacked the archive.
    ("FF_KANIKO_COPY_AS_ROOT", "true"),
    // The base's own layers stay as they are, so nodes that have them do not fetch them again.
    ("FF_KANIKO_REPRODUCIBLE_PRESERVE_BASE_LAYERS", "true"),
];

/// Does everything, in order.
pub(crate) fn make(plan: &RunPlan) -> Result<(), Stop> {
    let context = Path::new(path::CONTEXT).join(&plan.folder);
    // It would find out file by file, and blame the Dockerfile.
    if !context.is_dir() {
        return Err(io::Error::other(format!("no folder {}", context.display())).into());
    }
    fs::create_dir_all(temporary())?;
    let bases = Bases::serve(Layout::open(path::BASES), &plan.bases)?;
    confine()?;
    run(Purpose::Build, executor(plan, &context, &bases))?;
    open(Path::new(path::LAYOUT)).map_err(Stop::Io)
}

/// From here on: a runtime's system call filter and few capabilities, for this thread and all that it starts. The
/// container itself has no filter, because we had to make a user namespace.
fn confine() -> io::Result<()> {
    assay_confine::bound(KEPT).map_err(io::Error::other)?;
    for program in assay_confine::programs(false).map_err(io::Error::other)? {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Its environment is not passed on to the steps, but they can read it.
fn executor(plan: &RunPlan, context: &Path, bases: &Bases) -> Command {
    let mut command = Command::new(EXECUTOR);
    command
        .args(arguments(plan, context, bases))
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("USER", "root")
        .env("DOCKER_CONFIG", "/kaniko/.docker")
        .env("SSL_CERT_DIR", "/kaniko/ssl/certs")
        .env("TMPDIR", temporary())
        .envs(SWITCHES);
    command
}

fn arguments(plan: &RunPlan, context: &Path, bases: &Bases) -> Vec<String> {
    let mut words = vec![
        format!("--context=dir://{}", context.display()),
        format!("--dockerfile={}", context.join(&plan.dockerfile).display()),
        "--no-push".to_owned(),
        format!("--oci-layout-path={}", path::LAYOUT),
        format!("--custom-platform=linux/{}", architecture()),
        "--log-format=text".to_owned(),
        // Else it asks the clouds' metadata services who it is.
        "--credential-helpers=".to_owned(),
        "--skip-default-registry-fallback".to_owned(),
        format!("--insecure-registry={}", bases.address),
        // Our own folders are volumes, which it leaves alone; what holds them is not the image's either.
        "--ignore-path=/assay".to_owned(),
    ];
    // Over a base whose history it does not know it would crash (v1.28.3, in the library that takes the times out).
    if bases.have_history {
        words.push("--reproducible".to_owned());
    }
    words.extend(bases.maps().map(|map| format!("--registry-map={map}")));
    let args = plan.args.iter();
    words.extend(args.map(|(name, value)| format!("--build-arg={name}={value}")));
    words
}

/// Folders and files that others may read: Kaniko writes its layout for itself alone, and whoever pushes it is not it.
fn open(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn temporary() -> String {
    format!("{}/tmp", path::STORAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_to_push_nowhere_to_ask_nobody_and_to_take_bases_from_us() {
        let plan: RunPlan = serde_json::from_value(serde_json::json!({
            "tool": "kaniko", "folder": "environment", "dockerfile": "sub/Dockerfile", "args": { "A": "b c" },
            "bases": [], "network": false, "limit_ms": 1,
        }))
        .unwrap();
        let bases = Bases {
            address: ([127, 0, 0, 1], 4711).into(),
            hosts: vec!["index.docker.io".to_owned(), "r.example:5000".to_owned()],
            have_history: true,
        };
        let words = arguments(&plan, Path::new("/assay/context/environment"), &bases);
        let platform = format!("--custom-platform=linux/{}", architecture());
        assert_eq!(
            words,
            [
                "--context=dir:///assay/context/environment",
                "--dockerfile=/assay/context/environment/sub/Dockerfile",
                "--no-push",
                "--oci-layout-path=/assay/layout",
                &platform,
                "--log-format=text",
                "--credential-helpers=",
                "--skip-default-registry-fallback",
                "--insecure-registry=127.0.0.1:4711",
                "--ignore-path=/assay",
                "--reproducible",
                "--registry-map=index.docker.io=127.0.0.1:4711/h0",
                "--registry-map=r.example:5000=127.0.0.1:4711/h1",
                "--build-arg=A=b c",
            ]
        );
        let other = Bases {
            have_history: false,
            ..bases
        };
        let untold = arguments(&plan, Path::new("/assay/context/environment"), &other);
        assert!(!untold.contains(&"--reproducible".to_owned()));
        // No cache, so no repository of one; no destination.
        assert!(
            !words
                .iter()
                .any(|word| word.contains("cache") || word.contains("destination"))
        );
    }

    #[test]
    fn a_layout_becomes_readable_and_links_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (blobs, secret) = (folder.path().join("layout/blobs"), folder.path().join("secret"));
        fs::create_dir_all(&blobs).unwrap();
        for file in [&blobs.join("a"), &secret] {
            fs::write(file, "x").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::os::unix::fs::symlink(&secret, blobs.join("link")).unwrap();
        open(&folder.path().join("layout")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&blobs.join("a")), 0o644);
        assert_eq!(mode(&blobs), 0o755);
        assert_eq!(mode(&secret), 0o600);
    }
}
