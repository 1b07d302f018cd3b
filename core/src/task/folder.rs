//! The rules of the folder: which files must exist, and where each step's parts are.

use super::{
    Compose, Config, InvalidTask, StepFiles, Warning, compose,
    config::{EnvironmentMode, Step, Verifier},
};
use crate::archive::Files;

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
        && !files.is_file(&format!("environment/{}", compose::FILE))
        && files.beneath("environment").next().is_some()
}

/// Where everything is, step by step.
pub(super) fn steps(
    config: &Config,
    files: &Files,
    found: &mut Vec<Warning>,
) -> Result<Vec<StepFiles>, InvalidTask> {
    match config.steps.as_deref() {
        None | Some([]) => Ok(vec![only_step(config, files, found)?]),
        Some(steps) => steps
            .iter()
            .map(|step| named_step(config, step, files, found))
            .collect(),
    }
}

fn only_step(config: &Config, files: &Files, found: &mut Vec<Warning>) -> Result<StepFiles, InvalidTask> {
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
        verifier_compose: verifier_compose(&["tests"], verifier_image.context.as_deref(), files, found)?,
        verifier_image: verifier_image.context,
        solution: folder_with("solution", "solve.sh", files),
        trajectory: files
            .is_file("trajectory.json")
            .then(|| "trajectory.json".to_owned()),
    })
}

fn named_step(
    config: &Config,
    step: &Step,
    files: &Files,
    found: &mut Vec<Warning>,
) -> Result<StepFiles, InvalidTask> {
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
        verifier_compose: verifier_compose(
            &["tests", &own_tests],
            verifier_image.context.as_deref(),
            files,
            found,
        )?,
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

/// The services beside a separate verifier's own image. A compose file beside other tests would be left out silently.
fn verifier_compose(
    folders: &[&str],
    context: Option<&str>,
    files: &Files,
    found: &mut Vec<Warning>,
) -> Result<Compose, InvalidTask> {
    for folder in folders.iter().filter(|folder| Some(**folder) != context) {
        let path = format!("{folder}/{}", compose::FILE);
        if files.is_file(&path) {
            let reason =
                "only a separate verifier with a Dockerfile in the same folder has services of its own";
            return Err(InvalidTask::Compose {
                path,
                key: String::new(),
                reason: reason.to_owned(),
            });
        }
    }
    match context {
        Some(folder) => Ok(Compose::read(files, folder, found)?.unwrap_or_default()),
        None => Ok(Compose::default()),
    }
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

#[cfg(test)]
mod tests;
