//! Where and how a step is verified.

use std::collections::BTreeMap;

use super::{
    super::{
        StepFiles, Task,
        compose::Service,
        config::{Artifact, Config, EnvironmentMode, Healthcheck, Step, Verifier},
        folder, template,
    },
    ARTIFACTS, Circumstances, Gpus, Image, Unplannable, gpus, limits, network, services,
};
use crate::{
    agent::Contract,
    egress::Egress,
    limits::{LimitSettings, Limits, effective},
    phase::EgressPhase,
    policy::{Survivors, VerifierMode},
};

/// The verifier's phase, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifierPlan {
    /// Where it runs.
    pub mode: Mode,
    /// The folders that become `/tests`, in this order; later files win. Empty where the image bundles them.
    pub tests: Vec<String>,
    /// Who the test script runs as; the image's user when absent.
    pub user: Option<String>,
    /// Environment of the test script alone.
    pub env: BTreeMap<String, String>,
    /// Its deadline, seconds.
    pub timeout_sec: f64,
    /// What it may reach beside its models.
    pub egress: Egress,
}

/// Where a verifier runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// In the agent's sandbox.
    Shared {
        /// What happens to processes that the agent left.
        survivors: Survivors,
    },
    /// In a fresh sandbox.
    Separate(Box<Separate>),
}

impl Mode {
    /// The word of reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shared { .. } => "shared",
            Self::Separate(_) => "separate",
        }
    }
}

/// A verifier's own sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Separate {
    /// What it is made of.
    pub image: SeparateImage,
    /// Put the loose files of `environment/` into the working directory after the start.
    pub uploads_environment: bool,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// Environment of every process.
    pub env: BTreeMap<String, String>,
    /// The containers beside it.
    pub services: Vec<Service>,
    /// Passed after the start.
    pub healthcheck: Option<Healthcheck>,
    /// Its times and sizes.
    pub limits: Limits,
    /// On top of those that the agent's sandbox may still hold.
    pub gpus: Gpus,
    /// While its image is built.
    pub build_egress: Egress,
    /// Paths taken over from the agent's sandbox to where they were. Empty for patch agents: only the diff goes over.
    pub carry: Vec<Artifact>,
}

/// What a verifier's own sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeparateImage {
    /// The agent's image, untouched.
    SameAsAgent,
    /// Its own.
    Own(Image),
}

pub(super) fn plan(
    task: &Task,
    step: Option<&Step>,
    files: &StepFiles,
    artifacts: &[Artifact],
    given: &Circumstances<'_>,
) -> Result<VerifierPlan, Unplannable> {
    let config = &task.config;
    let asked = folder::environment_mode(config, step);
    let is_patch = given.contract == Contract::Patch;
    let is_forced = is_patch || given.policy.verifier.mode == VerifierMode::Separate;
    let of_step = |verifier: &Verifier| verifier.environment.clone();
    let own = step
        .and_then(|step| of_step(&step.verifier))
        .or_else(|| of_step(&config.verifier));
    let separate = asked == EnvironmentMode::Separate || is_forced;
    let environment = own.as_ref().filter(|_| separate).unwrap_or(&config.environment);
    let mode = if separate {
        let carry = if is_patch {
            Vec::new()
        } else {
            carry(asked, artifacts, given)?
        };
        let image = if asked == EnvironmentMode::Separate {
            image(config, step, files)
        } else {
            SeparateImage::SameAsAgent
        };
        // What is the same as the agent's has the same services; what is its own has its own.
        let compose = match &image {
            SeparateImage::SameAsAgent => &task.compose,
            SeparateImage::Own(_) => &files.verifier_compose,
        };
        let limits = limits(environment, given);
        services::check(compose, &limits, given)?;
        Mode::Separate(Box::new(Separate {
            uploads_environment: task.uploads_environment
                && files.verifier_image.is_none()
                && !bundles_tests(files)
                && own.is_none(),
            workdir: environment.workdir.clone(),
            env: super::env(
                &format!("{}.env", environment_table(own.is_some())),
                environment,
                compose,
                given,
            )?,
            services: compose.services.clone(),
            image,
            healthcheck: environment.healthcheck.clone(),
            limits,
            gpus: gpus::of(environment, environment_table(own.is_some()), given.gpus)?,
            build_egress: given
                .policy
                .egress(EgressPhase::Build, &network::baseline(environment)?),
            carry,
        }))
    } else {
        Mode::Shared {
            survivors: given.policy.verifier.survivors,
        }
    };
    let asked_egress = network::verifier(config, step, environment)?;
    Ok(VerifierPlan {
        mode,
        tests: files.tests.clone(),
        user: user(config, step),
        env: env(config, step, given)?,
        timeout_sec: timeout(config, step, given),
        egress: given.policy.egress(EgressPhase::Verify, &asked_egress),
    })
}

/// What goes over: the task's artifacts and the folder that is always collected, or else the policy's paths.
fn carry(
    asked: EnvironmentMode,
    artifacts: &[Artifact],
    given: &Circumstances<'_>,
) -> Result<Vec<Artifact>, Unplannable> {
    let path = |source: &str| Artifact {
        source: source.to_owned(),
        destination: None,
        exclude: Vec::new(),
        service: None,
    };
    if !artifacts.is_empty() || asked == EnvironmentMode::Separate {
        return Ok(super::with_convention(artifacts.to_vec()));
    }
    let paths = &given.policy.verifier.carry;
    if paths.is_empty() {
        return Err(Unplannable::SeparateNotPossible);
    }
    Ok(paths
        .iter()
        .map(String::as_str)
        .chain([ARTIFACTS])
        .map(path)
        .collect())
}

fn bundles_tests(files: &StepFiles) -> bool {
    files.tests.is_empty()
}

fn image(config: &Config, step: Option<&Step>, files: &StepFiles) -> SeparateImage {
    if let Some(context) = &files.verifier_image {
        return SeparateImage::Own(Image::Build {
            context: context.clone(),
        });
    }
    let named = |verifier: &Verifier| {
        verifier
            .environment
            .as_ref()
            .and_then(|own| own.docker_image.clone())
    };
    step.and_then(|step| named(&step.verifier))
        .or_else(|| named(&config.verifier))
        .map_or(SeparateImage::SameAsAgent, |image| {
            SeparateImage::Own(Image::Prebuilt { image })
        })
}

fn environment_table(is_own: bool) -> &'static str {
    if is_own {
        "verifier.environment"
    } else {
        "environment"
    }
}

fn user(config: &Config, step: Option<&Step>) -> Option<String> {
    step.and_then(|step| step.verifier.user.as_ref())
        .or(config.verifier.user.as_ref())
        .map(ToString::to_string)
}

/// The task's, and the step's over it.
fn env(
    config: &Config,
    step: Option<&Step>,
    given: &Circumstances<'_>,
) -> Result<BTreeMap<String, String>, Unplannable> {
    let mut written: BTreeMap<String, String> = config.verifier.env.clone();
    if let Some(step) = step {
        written.extend(step.verifier.env.clone());
    }
    Ok(template::resolve_all("verifier.env", &written, given.values)?)
}

/// A step's own time, whose default is not the task's: as in Harbor.
fn timeout(config: &Config, step: Option<&Step>, given: &Circumstances<'_>) -> f64 {
    let asked = step.map_or(config.verifier.timeout_sec, |step| step.verifier.timeout_sec);
    let LimitSettings { default, maximum } = given.settings;
    let time = &given.policy.time;
    effective(
        time.verifier_sec.or(Some(asked)),
        default.verifier_sec,
        maximum.verifier_sec,
        time.multiplier,
    )
}
