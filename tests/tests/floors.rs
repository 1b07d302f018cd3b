//! Holds the floors of the house: imports go down only, heavy libraries have one user, files stay readable.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The floor of each package; a package imports from lower floors only.
const FLOORS: &[(&str, u8)] = &[
    ("assay-core", 0),
    ("assay-confine", 1),
    ("assay-registry", 1),
    ("assay-runtime", 2),
    ("assay-engine", 2),
    ("assay-api", 3),
    ("assay-screener", 3),
    ("assay-proxy", 3),
    ("assay-init-iptables", 3),
    ("assay-runner", 3),
    ("assay-builder", 3),
    ("assay-cli", 4),
    ("assay-tests", 5),
];

/// Libraries that only these packages may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("sqlx", &["assay-api"]),
    ("aws-sdk-s3", &["assay-api"]),
    ("bollard", &["assay-engine"]),
    ("kube", &["assay-engine"]),
    ("k8s-openapi", &["assay-engine"]),
    ("axum", &["assay-api"]),
    ("utoipa", &["assay-api", "assay-core"]),
    (
        "anyhow",
        &[
            "assay-api",
            "assay-screener",
            "assay-proxy",
            "assay-cli",
            "assay-tests",
        ],
    ),
];

/// What the small programs of a sandbox must never pull in, however deep.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("assay-core", &["tokio", "hyper", "utoipa"]),
    ("assay-init-iptables", &["tokio", "hyper", "rustls", "utoipa"]),
    (
        "assay-runner",
        &["sqlx", "aws-sdk-s3", "bollard", "rustls", "utoipa"],
    ),
    (
        "assay-proxy",
        &["sqlx", "aws-sdk-s3", "bollard", "axum", "utoipa"],
    ),
];

const MOST_LINES: usize = 500;

#[test]
fn imports_go_down_only() {
    let packages = packages();
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    for (name, dependencies) in &packages {
        let floor = floors
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no floor; give it one here"));
        for dependency in dependencies.iter().filter(|name| name.starts_with("assay-")) {
            assert!(
                floors[dependency.as_str()] < *floor,
                "{name} (floor {floor}) imports {dependency}"
            );
        }
    }
}

#[test]
fn heavy_libraries_have_one_user() {
    for (name, dependencies) in &packages() {
        for (library, users) in RESERVED {
            let uses = dependencies.iter().any(|dependency| dependency == library);
            assert!(
                !uses || users.contains(&name.as_str()),
                "{name} names {library}, which belongs to {users:?}"
            );
        }
    }
}

#[test]
fn programs_of_a_sandbox_stay_small() {
    for (package, forbidden) in FORBIDDEN {
        let closure = closure(package);
        for library in *forbidden {
            assert!(
                !closure.iter().any(|name| name == library),
                "{package} pulls in {library}"
            );
        }
    }
}

#[test]
fn every_file_fits_in_one_head() {
    let long: Vec<String> = sources(&root())
        .into_iter()
        .filter_map(|path| {
            let lines = std::fs::read_to_string(&path).ok()?.lines().count();
            (lines > MOST_LINES).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "above {MOST_LINES} lines: {long:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<PathBuf> = sources(&root())
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .filter(|path| {
            !std::fs::read_to_string(path)
                .unwrap_or_default()
                .starts_with("//!")
        })
        .collect();
    assert!(silent.is_empty(), "without a first line `//! …`: {silent:#?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> BTreeMap<String, Vec<String>> {
    let arguments = ["metadata", "--offline", "--no-deps", "--format-version", "1"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            (
                name(package),
                dependencies
                    .filter(|dependency| dependency["kind"].is_null())
                    .map(name)
                    .collect(),
            )
        })
        .collect()
}

fn closure(package: &str) -> Vec<String> {
    let arguments = [
        "tree",
        "--offline",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with(package),
        "cargo tree said: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let skipped = ["target", ".git", "examples", "docs"];
    let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
    entries
        .flat_map(|entry| {
            let path = entry.path();
            let name = entry.file_name();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped.iter().any(|skipped| name == *skipped) => {
                    sources(&path)
                }
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") => {
                    vec![path]
                }
                _ => Vec::new(),
            }
        })
        .collect()
}
