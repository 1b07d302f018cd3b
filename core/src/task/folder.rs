//! The rules of the folder: which files must exist, where each step's parts are, what is not done here.

use super::{
    Config, InvalidTask, StepFiles,
    config::{Artifact, Environment, EnvironmentMode, NetworkMode, Os, Step, Verifier},
    parse::MAIN,
};
use crate::{archive::Files, egress::HostPattern};

/// Is there an image to run in, and is it built from a Dockerfile?
pub(super) fn check_environment(config: &Config, files: &Files) -> Result<bool, InvalidTask> {
    if config
        .environment
        .docker_image
        .as_deref()
        .is_some_and(|image| !image.is_empty())
    {
        return Ok(false);
    }
    if files.is_file("environment/Dockerfile") {
        return Ok(true);
    }
    let reason = "the image is built from it, unless environment.docker_image names one";
    Err(InvalidTask::Missing {
        path: "environment/Dockerfile".to_owned(),
        reason,
    })
}

pub(super) fn uploads_environment(config: &Config, files: &Files) -> bool {
    config.environment.docker_image.is_some()
        && !files.is_file("environment/Dockerfile")
        && files.beneath("environment").next().is_some()
}

/// Where everything is, step by step.
pub(super) fn steps(config: &Config, files: &Files) -> Result<Vec<StepFiles>, InvalidTask> {
    match config.steps.as_deref() {
        None | Some([]) => Ok(vec![only_step(config, files)?]),
        Some(steps) => steps.iter().map(|step| named_step(config, step, files)).collect(),
    }
}

fn only_step(config: &Config, files: &Files) -> Result<StepFiles, InvalidTask> {
    let verifier_image = verifier_image(&[(&config.verifier, "tests")], config, None, files);
    let bundles_tests = verifier_image.bundles_tests;
    Ok(StepFiles {
        name: None,
        instruction: instruction("instruction.md", files)?,
        workdir: None,
        has_setup: false,
        tests: if bundles_tests {
            Vec::new()
        } else {
            tests(&["tests"], files)?
        },
        verifier_image: verifier_image.context,
        solution: folder_with("solution", "solve.sh", files),
        trajectory: files
            .is_file("trajectory.json")
            .then(|| "trajectory.json".to_owned()),
    })
}

fn named_step(config: &Config, step: &Step, files: &Files) -> Result<StepFiles, InvalidTask> {
    let root = format!("steps/{}", step.name);
    let own_tests = format!("{root}/tests");
    let candidates = [(&step.verifier, own_tests.as_str()), (&config.verifier, "tests")];
    let verifier_image = verifier_image(&candidates, config, Some(step), files);
    let bundles_tests = verifier_image.bundles_tests;
    let workdir = format!("{root}/workdir");
    let trajectory = format!("{root}/trajectory.json");
    Ok(StepFiles {
        name: Some(step.name.clone()),
        instruction: instruction(&format!("{root}/instruction.md"), files)?,
        has_setup: files.is_file(&format!("{workdir}/setup.sh")),
        workdir: files.is_directory(&workdir).then_some(workdir),
        tests: if bundles_tests {
            Vec::new()
        } else {
            tests(&["tests", &own_tests], files)?
        },
        verifier_image: verifier_image.context,
        solution: folder_with(&format!("{root}/solution"), "solve.sh", files)
            .or_else(|| folder_with("solution", "solve.sh", files)),
        trajectory: files.is_file(&trajectory).then_some(trajectory),
    })
}

/// What the agent is told: the file without its leading canary lines and the blank lines after them.
fn instruction(path: &str, files: &Files) -> Result<String, InvalidTask> {
    let text = files.text(path).ok_or_else(|| InvalidTask::Missing {
        path: path.to_owned(),
        reason: "it tells the agent what to do (at most 1 MiB)",
    })?;
    Ok(without_canary(&text))
}

/// Canaries mark benchmark files for those who train models; agents never see them.
pub(super) fn without_canary(text: &str) -> String {
    let is_canary = |line: &&str| {
        let line = line.trim().to_lowercase();
        let is_comment = line.starts_with('#') || (line.starts_with("<!--") && line.ends_with("-->"));
        is_comment && line.contains("canary")
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let canaries = lines.iter().take_while(|line| is_canary(line)).count();
    let blanks = lines[canaries..]
        .iter()
        .take_while(|line| line.trim().is_empty())
        .count();
    lines[canaries + blanks..].join("\n")
}

/// The folders of the tests; one of them must hold the script.
fn tests(folders: &[&str], files: &Files) -> Result<Vec<String>, InvalidTask> {
    let has_script = |folder: &&str| files.is_file(&format!("{folder}/test.sh"));
    if !folders.iter().any(has_script) {
        let path = format!("{}/test.sh", folders[folders.len() - 1]);
        return Err(InvalidTask::Missing {
            path,
            reason: "it is the verifier's script",
        });
    }
    Ok(folders
        .iter()
        .filter(|folder| files.is_directory(folder))
        .map(|folder| (*folder).to_owned())
        .collect())
}

fn folder_with(folder: &str, script: &str, files: &Files) -> Option<String> {
    files
        .is_file(&format!("{folder}/{script}"))
        .then(|| folder.to_owned())
}

/// The verifier's own image, if it has one.
struct VerifierImage {
    context: Option<String>,
    bundles_tests: bool,
}

/// An image of its own, or a Dockerfile beside the tests, owns `/tests`. Looked for in the step first.
fn verifier_image(
    candidates: &[(&Verifier, &str)],
    config: &Config,
    step: Option<&Step>,
    files: &Files,
) -> VerifierImage {
    let none = VerifierImage {
        context: None,
        bundles_tests: false,
    };
    if environment_mode(config, step) != EnvironmentMode::Separate {
        return none;
    }
    for (verifier, folder) in candidates {
        if verifier
            .environment
            .as_ref()
            .is_some_and(|environment| environment.docker_image.is_some())
        {
            return VerifierImage {
                context: None,
                bundles_tests: true,
            };
        }
        if files.is_file(&format!("{folder}/Dockerfile")) {
            return VerifierImage {
                context: Some((*folder).to_owned()),
                bundles_tests: true,
            };
        }
    }
    none
}

/// Where the task wants a step to be verified.
pub(super) fn environment_mode(config: &Config, step: Option<&Step>) -> EnvironmentMode {
    let of = |verifier: &Verifier| {
        verifier
            .environment_mode
            .or(verifier.environment.as_ref().map(|_| EnvironmentMode::Separate))
    };
    step.and_then(|step| of(&step.verifier))
        .or_else(|| of(&config.verifier))
        .unwrap_or(EnvironmentMode::Shared)
}

/// Refuses by name what Assay does not do.
pub(super) fn check_supported(config: &Config, files: &Files) -> Result<(), InvalidTask> {
    check_one_environment(&config.environment, "environment")?;
    check_verifier(&config.verifier, "verifier")?;
    check_hosts(
        config.agent.network_mode,
        config.agent.allowed_hosts.as_deref(),
        "agent",
    )?;
    check_artifacts(&config.artifacts, "artifacts")?;
    for (index, step) in config.steps.iter().flatten().enumerate() {
        let key = format!("steps[{index}]");
        check_hosts(
            step.agent.network_mode,
            step.agent.allowed_hosts.as_deref(),
            &format!("{key}.agent"),
        )?;
        check_verifier(&step.verifier, &format!("{key}.verifier"))?;
        check_artifacts(&step.artifacts, &format!("{key}.artifacts"))?;
    }
    check_compose(config, files)
}

fn check_one_environment(environment: &Environment, key: &str) -> Result<(), InvalidTask> {
    let refusal = if environment.os == Os::Windows {
        ("os", "Windows containers are not run here")
    } else if environment.gpus.is_some_and(|gpus| gpus > 0) {
        ("gpus", "this engine hands out no GPU")
    } else if environment.tpu.is_some() {
        ("tpu", "this engine hands out no TPU")
    } else if !environment.mcp_servers.is_empty() {
        ("mcp_servers", "MCP servers are not offered to agents here")
    } else {
        let hosts = environment.allowed_hosts.as_deref();
        return check_hosts(Some(environment.network_mode), hosts, key);
    };
    let (name, reason) = refusal;
    Err(InvalidTask::Unsupported {
        key: format!("{key}.{name}"),
        reason: reason.to_owned(),
    })
}

fn check_verifier(verifier: &Verifier, key: &str) -> Result<(), InvalidTask> {
    check_hosts(verifier.network_mode, verifier.allowed_hosts.as_deref(), key)?;
    if let Some(environment) = &verifier.environment {
        check_one_environment(environment, &format!("{key}.environment"))?;
    }
    match verifier
        .collect
        .iter()
        .position(|collect| collect.service != MAIN)
    {
        Some(index) => Err(only_main(format!("{key}.collect[{index}].service"))),
        None => Ok(()),
    }
}

fn check_artifacts(artifacts: &[Artifact], key: &str) -> Result<(), InvalidTask> {
    let sidecar = |artifact: &Artifact| artifact.service.as_deref().is_some_and(|service| service != MAIN);
    match artifacts.iter().position(sidecar) {
        Some(index) => Err(only_main(format!("{key}[{index}].service"))),
        None => Ok(()),
    }
}

fn only_main(key: String) -> InvalidTask {
    let reason = "there is no service but `main`: compose files are not run here".to_owned();
    InvalidTask::Unsupported { key, reason }
}

/// Hosts are reached by name, through the proxy.
fn check_hosts(mode: Option<NetworkMode>, hosts: Option<&[String]>, key: &str) -> Result<(), InvalidTask> {
    if mode != Some(NetworkMode::Allowlist) {
        return Ok(());
    }
    for (index, host) in hosts.into_iter().flatten().enumerate() {
        pattern(host).map_err(|error| InvalidTask::Unsupported {
            key: format!("{key}.allowed_hosts[{index}]"),
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

/// A host of a task as a pattern of ours. `*.suffix` of a task covers any depth.
pub(super) fn pattern(host: &str) -> Result<HostPattern, crate::egress::InvalidHost> {
    if host.starts_with("*.") {
        format!("*{host}").parse()
    } else {
        host.parse()
    }
}

fn check_compose(config: &Config, files: &Files) -> Result<(), InvalidTask> {
    let mut folders = vec!["environment".to_owned(), "tests".to_owned()];
    folders.extend(
        config
            .steps
            .iter()
            .flatten()
            .map(|step| format!("steps/{}/tests", step.name)),
    );
    for folder in folders {
        let path = format!("{folder}/docker-compose.yaml");
        if files.is_file(&path) {
            let reason = "compose files are not run here; one Dockerfile makes the one container".to_owned();
            return Err(InvalidTask::Unsupported { key: path, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
