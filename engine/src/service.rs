//! A container beside main, and what its runner is told: the task's words over those of the image.

use std::collections::BTreeMap;

use assay_core::control::service::ServiceConfig;

use crate::{ImageRef, Resources};

/// A container beside main, in the same network namespace and with the same rights as main or less.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Its image.
    pub image: ImageRef,
    /// Its own limits.
    pub resources: Resources,
    /// Instead of the image's entrypoint; the image's command then counts no more.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's command.
    pub command: Option<Vec<String>>,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// File systems in memory: where, and bytes. They count in its memory.
    pub tmpfs: Vec<(String, u64)>,
    /// What its runner is told. Of the environment only what is put over the image's; a user only where it is not the
    /// image's; nothing of the command and the working directory, which follow from the above and the image.
    pub config: ServiceConfig,
}

/// What an image says about its own program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub workdir: String,
    pub user: String,
    pub env: BTreeMap<String, String>,
}

/// The word before its name, in the names of containers and volumes.
pub(crate) const PREFIX: &str = "service-";

/// What its first process is.
pub(crate) const COMMAND: [&str; 4] = ["/assay/runner", "service", "--config", "/assay/service.json"];

impl ServiceSpec {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.config.place.name
    }

    /// The name of its container within a pod.
    pub(crate) fn container(&self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    /// All that its runner is told. What an image leaves open is left to the runner to complain about.
    pub(crate) fn completed(&self, image: &Program) -> ServiceConfig {
        let (entrypoint, command) = match (&self.entrypoint, &self.command) {
            (Some(entrypoint), command) => (entrypoint, command.as_ref()),
            (None, Some(command)) => (&image.entrypoint, Some(command)),
            (None, None) => (&image.entrypoint, Some(&image.command)),
        };
        let argv = entrypoint.iter().chain(command.into_iter().flatten()).cloned();
        let mut env = image.env.clone();
        env.extend(self.config.env.clone());
        let or_root = |path: &String| {
            if path.is_empty() {
                "/".to_owned()
            } else {
                path.clone()
            }
        };
        ServiceConfig {
            argv: argv.collect(),
            env,
            user: self
                .config
                .user
                .clone()
                .or_else(|| Some(image.user.clone()).filter(|user| !user.is_empty())),
            cwd: self.workdir.clone().unwrap_or_else(|| or_root(&image.workdir)),
            ..self.config.clone()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use assay_core::{
        control::{
            runner::RunnerConfig,
            service::{ServiceConfig, ServicePlace},
        },
        id::{Fence, SandboxId},
    };
    use uuid::Uuid;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    pub(crate) fn spec() -> ServiceSpec {
        ServiceSpec {
            image: ImageRef("r/db@sha256:4".to_owned()),
            resources: Resources {
                cpu_milli: 500,
                memory_bytes: 256 << 20,
                pids: 64,
                disk_bytes: 1 << 30,
            },
            entrypoint: None,
            command: None,
            workdir: None,
            tmpfs: vec![("/run".to_owned(), 16 << 20)],
            config: ServiceConfig {
                runner: RunnerConfig {
                    sandbox: SandboxId(Uuid::from_u128(1)),
                    public_key: String::new(),
                    fence: Fence(1),
                    proxy: true,
                    max_pids: 64,
                    services: Vec::new(),
                },
                place: ServicePlace {
                    name: "db".to_owned(),
                    port: 15_040,
                },
                argv: Vec::new(),
                env: BTreeMap::from([("A".to_owned(), "task".to_owned())]),
                user: None,
                cwd: String::new(),
                healthcheck: None,
                after: Vec::new(),
            },
        }
    }

    #[test]
    fn a_tasks_words_come_before_the_images() {
        let image = Program {
            entrypoint: words(&["/entry"]),
            command: words(&["serve"]),
            workdir: "/srv".to_owned(),
            user: "db".to_owned(),
            env: BTreeMap::from(["A", "B"].map(|name| (name.to_owned(), "image".to_owned()))),
        };
        let plain = spec().completed(&image);
        assert_eq!(plain.argv, ["/entry", "serve"]);
        assert_eq!((plain.cwd.as_str(), plain.user.as_deref()), ("/srv", Some("db")));
        assert_eq!(
            (plain.env["A"].as_str(), plain.env["B"].as_str()),
            ("task", "image")
        );
        let mut told = spec();
        told.command = Some(words(&["check"]));
        told.config.user = Some("0".to_owned());
        told.workdir = Some("/".to_owned());
        let completed = told.completed(&image);
        assert_eq!(completed.argv, ["/entry", "check"]);
        assert_eq!(
            (completed.cwd.as_str(), completed.user.as_deref()),
            ("/", Some("0"))
        );
        told.entrypoint = Some(words(&["/other"]));
        assert_eq!(told.completed(&image).argv, ["/other", "check"]);
        told.command = None;
        assert_eq!(
            told.completed(&image).argv,
            ["/other"],
            "the image's command was for its entrypoint"
        );
        let bare = spec().completed(&Program::default());
        assert_eq!((bare.cwd.as_str(), bare.user, bare.argv.len()), ("/", None, 0));
    }
}
