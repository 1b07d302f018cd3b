//! `docker-compose.yaml` of a task, as far as it is run here: other containers beside the task's own one.
//!
//! They share the sandbox's network namespace, so each is reached by its name at 127.0.0.1 and meets the same packet rules.
//! What is not listed here is refused by service and key, never left out: a task that silently lacks something would be
//! scored all the same.

mod amounts;
mod check;
mod health;
mod node;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use self::node::Node;
use super::{InvalidTask, Warning, parse::MAIN};
use crate::archive::Files;

/// The file's name, in `environment/` and beside a separate verifier's own Dockerfile.
pub const FILE: &str = "docker-compose.yaml";

/// More containers than these are no sandbox of one task any more.
pub const MOST_SERVICES: usize = 8;

/// What `*name` may repeat in all, in pieces of YAML: a few lines can be made to mean gigabytes.
const MOST_REPEATED: usize = 10_000;

/// The services of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Compose {
    /// Environment of every process of the task's own container; `environment.env` of the task wins over it.
    pub main_env: BTreeMap<String, String>,
    /// The containers beside it, each after those that it depends on.
    pub services: Vec<Service>,
}

/// A container beside the task's own one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name, which the others reach it by.
    pub name: String,
    /// What it is made of.
    pub image: ServiceImage,
    /// Instead of the image's entrypoint; the image's command then counts no more.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's command.
    pub command: Option<Vec<String>>,
    /// Over the image's environment.
    pub env: BTreeMap<String, String>,
    /// Instead of the image's user.
    pub user: Option<String>,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// When it is ready. Without one: when it has started.
    pub healthcheck: Option<Check>,
    /// What it starts after.
    pub depends_on: Vec<Dependency>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in bytes; file systems in memory count.
    pub memory_bytes: u64,
    /// Tasks.
    pub pids: u64,
    /// Ports that it is said to listen on.
    pub ports: BTreeSet<u16>,
}

/// What a service is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceImage {
    /// Built from a folder of the task.
    Build {
        /// The folder, by its name within the task.
        context: String,
        /// The Dockerfile's path inside of it.
        dockerfile: String,
        /// Build arguments.
        args: BTreeMap<String, String>,
    },
    /// Made elsewhere.
    Prebuilt {
        /// Its name.
        image: String,
    },
}

/// When a service is ready: Docker's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What to run; exit code 0 is good.
    pub argv: Vec<String>,
    /// Between two tries.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// So many failures in a row are too many.
    pub retries: u32,
    /// Failures before that do not count.
    pub start_period: Duration,
    /// Between two tries before that.
    pub start_interval: Duration,
}

impl Check {
    /// The longest that it can take until the service is ready or has failed.
    pub fn longest(&self) -> Duration {
        self.start_period + (self.interval + self.timeout) * self.retries + self.timeout
    }
}

/// What a service starts after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// The other service.
    pub service: String,
    /// Its healthcheck must have passed; otherwise it must have started.
    pub healthy: bool,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tmpfs {
    /// Where.
    pub path: String,
    /// At most so many bytes.
    pub bytes: u64,
}

impl Compose {
    /// Reads the compose file of a folder; `None` where there is none.
    pub(super) fn read(
        files: &Files,
        folder: &str,
        found: &mut Vec<Warning>,
    ) -> Result<Option<Self>, InvalidTask> {
        let path = format!("{folder}/{FILE}");
        if !files.is_file(&path) {
            return Ok(None);
        }
        let text = files.text(&path).ok_or_else(|| InvalidTask::Compose {
            path: path.clone(),
            key: String::new(),
            reason: "it is larger than 1 MiB".to_owned(),
        })?;
        let place = Place {
            path: &path,
            folder,
            files,
        };
        parse(&text, &place, found).map(Some)
    }

    /// The longest that the services can take until all are ready or one has failed.
    pub fn longest(&self) -> Duration {
        let checks = self
            .services
            .iter()
            .filter_map(|service| service.healthcheck.as_ref());
        checks.map(Check::longest).sum()
    }

    /// Is there a service of that name?
    pub fn has(&self, name: &str) -> bool {
        self.services.iter().any(|service| service.name == name)
    }
}

/// Where a compose file stands.
struct Place<'a> {
    path: &'a str,
    folder: &'a str,
    files: &'a Files,
}

fn parse(text: &str, place: &Place<'_>, found: &mut Vec<Warning>) -> Result<Compose, InvalidTask> {
    let bounds = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_REPEATED },
    };
    let value: serde_json::Value =
        serde_saphyr::from_str_with_options(text, bounds).map_err(|error| InvalidTask::Compose {
            path: place.path.to_owned(),
            key: String::new(),
            reason: first_line(&error.without_snippet().to_string()),
        })?;
    let mut compose = Compose::default();
    let mut main_waits_for = Vec::new();
    let root = Node::root(place.path, &value);
    let mut any = false;
    for (key, node) in root.map()? {
        match key {
            "services" => {
                any = true;
                for (name, node) in node.map()? {
                    if name == MAIN {
                        let main = service::main(&node)?;
                        compose.main_env = main.env;
                        main_waits_for = main.depends_on;
                    } else {
                        compose.services.push(service::of(name, &node, place, found)?);
                    }
                }
            }
            // Old files name a version; a project's name has no meaning where there is one project.
            "version" | "name" => {}
            key if key.starts_with("x-") => {}
            "networks" => return Err(node.refuse("all services share the sandbox's network")),
            "volumes" => return Err(node.refuse("nothing is mounted; put files into an image, or use tmpfs")),
            _ => return Err(node.refuse("is not done here: only `services` are read")),
        }
    }
    if !any {
        return Err(root.refuse("it names no `services`"));
    }
    check::all(&mut compose, &main_waits_for, &root)?;
    Ok(compose)
}

/// Parsers draw pictures of the text under their sentence.
fn first_line(text: &str) -> String {
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests;
