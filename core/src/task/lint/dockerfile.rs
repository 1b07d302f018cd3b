//! The Dockerfiles: images that may change, files that are missing, tests that the agent would see.

use super::{Warning, python, warn};
use crate::{archive::Files, dockerfile::without_heredocs};

/// Looks at the image of the agent and at those of verifiers.
pub(super) fn check(files: &Files, found: &mut Vec<Warning>) {
    let is_dockerfile = |path: &&String| {
        let folder = path.strip_suffix("/Dockerfile").unwrap_or_default();
        folder == AGENT || folder == "tests" || (folder.starts_with("steps/") && folder.ends_with("/tests"))
    };
    for path in files.entries().keys().filter(is_dockerfile) {
        if let Some(text) = files.text(path) {
            let text = without_heredocs(&text);
            instructions(files, path, &text, found);
            python::check_commands(path, &text, found);
        }
    }
}

fn instructions(files: &Files, path: &str, text: &str, found: &mut Vec<Warning>) {
    let context = path.trim_end_matches("/Dockerfile");
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = format!("{path} line {}", number + 1);
        match words.as_slice() {
            [from, rest @ ..] if from.eq_ignore_ascii_case("from") => {
                let image = rest.iter().find(|word| !word.starts_with("--"));
                if let Some(image) = image.filter(|image| !is_pinned(image) && **image != "scratch") {
                    let message = format!("{place}: {image} may change under its name");
                    warn(found, "unpinned-image", message);
                }
            }
            [copy, rest @ ..] if ["copy", "add"].contains(&copy.to_lowercase().as_str()) => {
                let sources = sources(rest);
                if context == AGENT && sources.iter().any(|source| leaks(source)) {
                    let message = format!("{place}: puts tests or the solution where the agent sees them");
                    warn(found, "agent-image-test-leak", message);
                }
                for source in sources.iter().filter(|source| is_missing(files, context, source)) {
                    let message =
                        format!("{place}: {source} is not in {context}/, which is the build's context");
                    warn(found, "missing-build-source", message);
                }
            }
            _ => {}
        }
    }
}

/// What an instruction copies out of the context; empty where it copies out of another image, or goes on below.
fn sources<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let plain = |word: &&'a str| word.trim_matches(['[', ']', '"', ',']);
    let goes_on = words.last() == Some(&"\\");
    if goes_on
        || words
            .iter()
            .any(|word| word.starts_with("--from=") || word.starts_with("<<"))
    {
        return Vec::new();
    }
    let paths: Vec<&str> = words
        .iter()
        .filter(|word| !word.starts_with("--"))
        .map(plain)
        .filter(|word| !word.is_empty())
        .collect();
    paths
        .split_last()
        .map_or_else(Vec::new, |(_, sources)| sources.to_vec())
}

/// Only plain names are judged: patterns, variables and addresses are left to the builder.
fn is_missing(files: &Files, context: &str, source: &str) -> bool {
    let is_plain = !source.contains(['*', '?', '[', '$']) && !source.contains("://");
    let inner = source.trim_start_matches("./").trim_matches('/');
    let path = format!("{context}/{inner}");
    is_plain && !["", "."].contains(&inner) && !files.is_file(&path) && !files.is_directory(&path)
}

/// By digest, or at least by a tag that is not `latest`.
pub(super) fn is_pinned(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    image.contains("@sha256:")
        || image.starts_with('$')
        || name.split_once(':').is_some_and(|(_, tag)| tag != "latest")
}

fn leaks(source: &str) -> bool {
    let source = source.trim_start_matches("./").trim_start_matches('/');
    let first = source.split('/').next().unwrap_or_default();
    ["tests", "solution"].contains(&first)
}

/// The folder that the agent's image is built from.
const AGENT: &str = "environment";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Caps, scan};

    #[test]
    fn what_is_copied_has_to_be_in_the_context() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("environment");
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(folder.join("data/x"), "").unwrap();
        let text = "FROM a:1\nRUN cat <<E\nfrom b import c\nE\nCOPY data /d\nCOPY ./data/x data/*.y /d/\nCOPY --from=b /x /y\nADD https://x.org/y /z\n\
                    COPY environment/app /app\nCOPY [\"gone\", \"/y\"]\nCOPY a \\\n  b /c\nCOPY . /app\n";
        std::fs::write(folder.join("Dockerfile"), text).unwrap();
        let mut found = Vec::new();
        check(&scan(root.path(), Caps::default()).unwrap(), &mut found);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "missing-build-source: environment/Dockerfile line 9: environment/app is not in environment/, \
                 which is the build's context",
                "missing-build-source: environment/Dockerfile line 10: gone is not in environment/, \
                 which is the build's context",
            ]
        );
    }
}
