//! Which images a task may start from.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Images as a policy knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    /// What a Dockerfile may start from and `docker_image` may be: `debian`, `docker.io/library/*`,
    /// `registry.example.com/bases/python:3.12`. A name without a tag means each of its tags; a `*` at the end anything that
    /// begins so. Every image where the list is empty.
    pub allow: BTreeSet<String>,
}

impl Images {
    /// May a task start from the image of this name?
    pub fn allows(&self, image: &str) -> bool {
        let image = full(image);
        self.allow.is_empty() || self.allow.iter().any(|pattern| matches(&full(pattern), &image))
    }
}

fn matches(pattern: &str, image: &str) -> bool {
    if let Some(beginning) = pattern.strip_suffix('*') {
        return image.starts_with(beginning);
    }
    match image.strip_prefix(pattern) {
        Some("") => true,
        // What follows a name without a tag is its tag or digest.
        Some(rest) => version(pattern).is_none() && rest.starts_with([':', '@']),
        None => false,
    }
}

/// With the host and the folder that Docker leaves out.
fn full(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Tag or digest, where there is one.
fn version(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(['@', ':']).map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(patterns: &[&str], image: &str) -> bool {
        let allow = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Images { allow }.allows(image)
    }

    #[test]
    fn names_mean_what_docker_means_by_them() {
        assert!(allowed(&[], "anything/at:all"));
        assert!(allowed(&["debian"], "debian:bookworm-slim"));
        assert!(allowed(&["debian"], "docker.io/library/debian@sha256:0"));
        assert!(!allowed(&["debian"], "debian-evil:1"));
        assert!(!allowed(&["debian"], "evil/debian:1"));
        assert!(!allowed(&["debian"], "r.example.com/library/debian"));
    }

    #[test]
    fn tags_and_beginnings_narrow_and_widen() {
        assert!(allowed(&["python:3.12"], "python:3.12"));
        assert!(!allowed(&["python:3.12"], "python:3.12-evil"));
        assert!(!allowed(&["python:3.12"], "python"));
        assert!(allowed(&["docker.io/library/*"], "python:3"));
        assert!(allowed(
            &["r.example.com:5000/bases/*"],
            "r.example.com:5000/bases/a@sha256:1"
        ));
        assert!(!allowed(
            &["r.example.com:5000/bases/*"],
            "r.example.com:5000/basesx/a"
        ));
    }
}
