//! Artifacts that are taken twice, or that lie where the platform keeps its own files.

use super::{
    super::config::{Artifact, Config},
    Warning, warn,
};

pub(super) fn check(config: &Config, found: &mut Vec<Warning>) {
    let named = |key: &str, artifacts: &[Artifact]| -> Vec<(String, Artifact)> {
        let numbered = artifacts.iter().cloned().enumerate();
        numbered
            .map(|(index, artifact)| (format!("{key}[{index}]"), artifact))
            .collect()
    };
    let shared = named("artifacts", &config.artifacts);
    overlaps(&shared, &shared, found);
    logs(&shared, found);
    for (index, step) in config.steps.iter().flatten().enumerate() {
        let own = named(&format!("steps[{index}].artifacts"), &step.artifacts);
        overlaps(&shared, &own, found);
        overlaps(&own, &own, found);
        logs(&own, found);
    }
}

/// Each pair is told once, at the later key.
fn overlaps(left: &[(String, Artifact)], right: &[(String, Artifact)], found: &mut Vec<Warning>) {
    for (later, second) in right {
        for (earlier, first) in left.iter().take_while(|(key, _)| key != later) {
            if first.service != second.service {
                continue;
            }
            if is_within(&first.source, &second.source) || is_within(&second.source, &first.source) {
                let message = format!(
                    "{later}: {} overlaps with {} of {earlier}",
                    second.source, first.source
                );
                warn(found, "overlapping-artifacts", message);
            } else if first.destination.is_some() && first.destination == second.destination {
                let message = format!("{later}.destination: is that of {earlier} too");
                warn(found, "overlapping-artifacts", message);
            }
        }
    }
}

fn logs(artifacts: &[(String, Artifact)], found: &mut Vec<Warning>) {
    for (key, artifact) in artifacts {
        let source = &artifact.source;
        let overlap = LOGS
            .iter()
            .find(|logs| is_within(source, logs) || is_within(logs, source));
        if let Some(logs) = overlap {
            let message = format!("{key}: {source} overlaps with {logs}, which is kept anyway");
            warn(found, "artifact-log-overlap", message);
        }
    }
}

/// Is `inner` the folder `outer`, or below it?
fn is_within(outer: &str, inner: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    let inner = inner.trim_end_matches('/');
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

const LOGS: &[&str] = &["/logs/agent", "/logs/verifier"];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(toml: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Config::parse(toml).unwrap().0, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_path_taken_twice_is_told_once_with_both_keys() {
        let all = found(
            "artifacts = ['/app', '/data']\n[[steps]]\nname = 'a'\nartifacts = ['/app/x', '/application', '/logs/']",
        );
        assert_eq!(
            all,
            [
                "overlapping-artifacts: steps[0].artifacts[0]: /app/x overlaps with /app of artifacts[0]",
                "artifact-log-overlap: steps[0].artifacts[2]: /logs/ overlaps with /logs/agent, which is kept anyway",
            ]
        );
        let all = found(
            "artifacts = [{source='/a', destination='x'}, {source='/b', destination='x'}, '/logs/artifacts']",
        );
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].contains("artifacts[1].destination"), "{all:?}");
    }
}
