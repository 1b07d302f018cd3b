//! One service: every key that is understood, every other refused with the reason.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{InvalidTask, Warning},
    Dependency, Place, Service, ServiceImage, Tmpfs,
    amounts::{bytes, bytes_of, command, count, cpu_milli, port},
    health,
    node::Node,
};

/// What the file says about the task's own container.
pub(super) struct Main {
    pub(super) env: BTreeMap<String, String>,
    pub(super) depends_on: Vec<Dependency>,
}

/// The task's own container: `task.toml` says all but its environment and what it waits for.
pub(super) fn main(node: &Node<'_>) -> Result<Main, InvalidTask> {
    let mut main = Main {
        env: BTreeMap::new(),
        depends_on: Vec::new(),
    };
    for (key, node) in node.map()? {
        match key {
            "environment" => main.env = node.pairs()?,
            "depends_on" => main.depends_on = depends_on(&node)?,
            "expose" | "ports" => drop(ports(&node)?),
            "build" if is_own_folder(&node)? => {}
            "command" if is_sleep(&command(&node)?) => {}
            key if key.starts_with("x-") => {}
            _ => return Err(node.refuse(why_of_main(key))),
        }
    }
    Ok(main)
}

fn is_own_folder(node: &Node<'_>) -> Result<bool, InvalidTask> {
    let own = |text: String| matches!(text.as_str(), "." | "./");
    if node.value.is_string() {
        return node.text().map(own);
    }
    let keys = node.map()?;
    match &keys[..] {
        [("context", context)] => context.text().map(own),
        _ => Ok(false),
    }
}

/// Harbor's own command of `main`: its container only has to stay.
fn is_sleep(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = words.strip_prefix(&["sh", "-c"]).unwrap_or(&words);
    words.join(" ") == "sleep infinity"
}

fn why_of_main(key: &str) -> &'static str {
    match key {
        "build" => "main is built from environment/Dockerfile",
        "image" => "main's image is environment.docker_image of task.toml",
        "command" | "entrypoint" => "main's first process is the runner; start servers as services",
        "user" => "say agent.user in task.toml",
        "working_dir" => "say environment.workdir in task.toml",
        "healthcheck" => "say [environment.healthcheck] in task.toml",
        "mem_limit" | "cpus" | "deploy" | "pids_limit" => {
            "say environment.cpus and environment.memory_mb in task.toml"
        }
        key => why(key),
    }
}

/// A container beside it.
pub(super) fn of(
    name: &str,
    node: &Node<'_>,
    place: &Place<'_>,
    found: &mut Vec<Warning>,
) -> Result<Service, InvalidTask> {
    check_name(name, node)?;
    let mut service = Service {
        name: name.to_owned(),
        image: ServiceImage::Prebuilt { image: String::new() },
        entrypoint: None,
        command: None,
        env: BTreeMap::new(),
        user: None,
        workdir: None,
        healthcheck: None,
        depends_on: Vec::new(),
        tmpfs: Vec::new(),
        cpu_milli: DEFAULT_CPU_MILLI,
        memory_bytes: DEFAULT_MEMORY,
        pids: DEFAULT_PIDS,
        ports: BTreeSet::new(),
    };
    let (mut image, mut build) = (None, None);
    for (key, node) in node.map()? {
        match key {
            "image" => image = Some(node.text()?),
            "build" => build = Some(self::build(&node, place)?),
            "ports" => {
                service.ports.extend(ports(&node)?);
                found.push(Warning {
                    rule: "compose-ports-not-published",
                    message: format!(
                        "{}: services.{name}.ports: no port is published; others in the sandbox reach it all the same",
                        place.path
                    ),
                });
            }
            _ => set(&mut service, key, &node)?,
        }
    }
    service.image = match (image, build) {
        (Some(image), None) if !image.is_empty() => ServiceImage::Prebuilt { image },
        (None, Some(build)) => build,
        (Some(_), Some(_)) => return Err(node.refuse("want `image` or `build`, not both")),
        _ => return Err(node.refuse("want `image` or `build`")),
    };
    let in_memory: u64 = service.tmpfs.iter().map(|tmpfs| tmpfs.bytes).sum();
    if in_memory > service.memory_bytes {
        let reason = "they are larger together than the service's memory, in which they count";
        return Err(node.refuse_below("tmpfs", reason));
    }
    Ok(service)
}

fn set(service: &mut Service, key: &str, node: &Node<'_>) -> Result<(), InvalidTask> {
    match key {
        "entrypoint" => service.entrypoint = Some(some_command(node)?),
        "command" => service.command = Some(some_command(node)?),
        "environment" => service.env = node.pairs()?,
        "user" => service.user = Some(user(node)?),
        "working_dir" => service.workdir = Some(absolute(node, &node.text()?)?),
        "healthcheck" => service.healthcheck = health::check(node)?,
        "depends_on" => service.depends_on = depends_on(node)?,
        "expose" => service.ports.extend(ports(node)?),
        "tmpfs" => service.tmpfs = node.one_or_list()?.iter().map(tmpfs).collect::<Result<_, _>>()?,
        "mem_limit" => service.memory_bytes = memory(node)?,
        "cpus" => service.cpu_milli = cpu_milli(node)?,
        "pids_limit" => service.pids = count(node, MOST_PIDS)?,
        "deploy" => deploy(service, node)?,
        // The runner collects the dead in every container.
        "init" => drop(node.flag()?),
        "restart" if node.scalar()? == "no" => {}
        "hostname" | "container_name" if node.text()? == service.name => {}
        key if key.starts_with("x-") => {}
        _ => return Err(node.refuse(why(key))),
    }
    Ok(())
}

/// Why a key that compose knows is not honoured.
fn why(key: &str) -> &'static str {
    match key {
        "privileged"
        | "cap_add"
        | "cap_drop"
        | "devices"
        | "device_cgroup_rules"
        | "security_opt"
        | "sysctls"
        | "ulimits"
        | "userns_mode"
        | "pid"
        | "ipc"
        | "uts"
        | "cgroup"
        | "cgroup_parent"
        | "runtime"
        | "gpus"
        | "group_add"
        | "read_only"
        | "use_api_socket" => "a service has the rights of the task's own container and no others",
        "network_mode" | "networks" | "dns" | "dns_search" | "dns_opt" | "extra_hosts" | "links"
        | "external_links" | "hostname" | "container_name" | "domainname" | "mac_address" => {
            "all services share the sandbox's network and rules; each is reached by its own name"
        }
        "volumes" | "volumes_from" | "configs" | "secrets" | "env_file" | "shm_size" => {
            "nothing is mounted or shared; put files into the service's image, or use tmpfs"
        }
        "restart" => "a service that ends is not started again; only `no` is understood",
        "scale" => "there is one container of each service",
        _ => "is not done here; docs/TASKS.md lists the keys that are",
    }
}

fn check_name(name: &str, node: &Node<'_>) -> Result<(), InvalidTask> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| is_letter(byte) || byte == b'-')
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().last().is_some_and(is_letter);
    if RESERVED.contains(&name) {
        return Err(node.refuse("is the name of something of the platform's"));
    }
    if !fits {
        return Err(node.refuse(format!(
            "a service's name is a host name: lower-case letters, digits and dashes, at most {LONGEST_NAME}"
        )));
    }
    Ok(())
}

fn build(node: &Node<'_>, place: &Place<'_>) -> Result<ServiceImage, InvalidTask> {
    let (mut context, mut dockerfile, mut args) = (None, None, BTreeMap::new());
    if node.value.is_string() {
        context = Some((node.clone(), node.text()?));
    } else {
        for (key, node) in node.map()? {
            match key {
                "context" => context = Some((node.clone(), node.text()?)),
                "dockerfile" => dockerfile = Some(node.text()?),
                "args" => args = node.pairs()?,
                _ => {
                    return Err(
                        node.refuse("only `context`, `dockerfile` and `args` of a build are understood")
                    );
                }
            }
        }
    }
    let (at, written) = context.ok_or_else(|| node.refuse_below("context", "is missing"))?;
    let context = beneath(place, &written)
        .filter(|folder| place.files.is_directory(folder))
        .ok_or_else(|| at.refuse(format!("{written:?} is no folder within {}/", place.folder)))?;
    let dockerfile = dockerfile.unwrap_or_else(|| "Dockerfile".to_owned());
    let dockerfile = dockerfile.trim_start_matches("./").to_owned();
    let inside =
        !dockerfile.starts_with('/') && dockerfile.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !inside || !place.files.is_file(&format!("{context}/{dockerfile}")) {
        return Err(node.refuse_below(
            "dockerfile",
            format!("{context}/{dockerfile} is no file of the task"),
        ));
    }
    Ok(ServiceImage::Build {
        context,
        dockerfile,
        args,
    })
}

/// The folder of the task that a path of the file means; `None` outside of the file's own folder.
fn beneath(place: &Place<'_>, written: &str) -> Option<String> {
    if written.starts_with(['/', '~']) || written.contains("://") {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let mut full = place.folder.to_owned();
    for part in parts {
        full.push('/');
        full.push_str(part);
    }
    let real = place.files.resolve(&full)?;
    let inside = real == place.folder || real.starts_with(&format!("{}/", place.folder));
    inside.then_some(real)
}

/// A name or number of the image, with an optional group.
fn user(node: &Node<'_>) -> Result<String, InvalidTask> {
    let user = node.scalar()?;
    let proxy = crate::egress::PROXY_UID.to_string();
    if user.split(':').any(|part| part == proxy) {
        return Err(node.refuse(format!("user {proxy} does not exist inside of a sandbox")));
    }
    Ok(user)
}

fn some_command(node: &Node<'_>) -> Result<Vec<String>, InvalidTask> {
    let words = command(node)?;
    if words.is_empty() {
        return Err(node.refuse("is empty; leave it out for the image's own"));
    }
    Ok(words)
}

fn ports(node: &Node<'_>) -> Result<BTreeSet<u16>, InvalidTask> {
    node.list()?.iter().map(port).collect()
}

/// A list, or a map with conditions.
fn depends_on(node: &Node<'_>) -> Result<Vec<Dependency>, InvalidTask> {
    if node.value.is_array() {
        let started = |service| Dependency {
            service,
            healthy: false,
        };
        return Ok(node.texts()?.into_iter().map(started).collect());
    }
    let entry = |(service, node): (&str, Node<'_>)| {
        let mut healthy = false;
        for (key, node) in node.map()? {
            match (key, node.scalar()?.as_str()) {
                ("condition", "service_started") | ("required", "true") | ("restart", "false") => {}
                ("condition", "service_healthy") => healthy = true,
                ("condition", _) => {
                    return Err(node.refuse("want service_started or service_healthy"));
                }
                _ => return Err(node.refuse("only `condition` is understood")),
            }
        }
        Ok(Dependency {
            service: service.to_owned(),
            healthy,
        })
    };
    node.map()?.into_iter().map(entry).collect()
}

/// `/run`, `/run:size=64m`. The other options of a mount are not read.
fn tmpfs(node: &Node<'_>) -> Result<Tmpfs, InvalidTask> {
    let text = node.text()?;
    let (path, options) = text.split_once(':').unwrap_or((&text, ""));
    let mut size = DEFAULT_TMPFS;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => {
                size = bytes_of(text).ok_or_else(|| node.refuse(format!("{text:?} is no size")))?;
            }
            _ => {
                return Err(node.refuse(format!(
                    "of its options only `size` is understood, not {option:?}"
                )));
            }
        }
    }
    let path = absolute(node, path)?;
    if ["/", "/assay", "/proc", "/sys", "/dev"].contains(&path.as_str()) || path.starts_with("/assay/") {
        return Err(node.refuse(format!("nothing can be mounted at {path}")));
    }
    Ok(Tmpfs { path, bytes: size })
}

fn absolute(node: &Node<'_>, path: &str) -> Result<String, InvalidTask> {
    let clean = path.starts_with('/') && path.split('/').all(|part| part != "..");
    if !clean {
        return Err(node.refuse(format!("{path:?} is no absolute path")));
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    Ok(format!("/{}", parts.join("/")))
}

/// `deploy.resources.limits`.
fn deploy(service: &mut Service, node: &Node<'_>) -> Result<(), InvalidTask> {
    for (key, node) in node.map()? {
        if key != "resources" {
            return Err(node.refuse("of `deploy` only `resources.limits` is understood"));
        }
        for (key, node) in node.map()? {
            if key != "limits" {
                return Err(node.refuse("of `resources` only `limits` are understood"));
            }
            for (key, node) in node.map()? {
                match key {
                    "cpus" => service.cpu_milli = cpu_milli(&node)?,
                    "memory" => service.memory_bytes = memory(&node)?,
                    "pids" => service.pids = count(&node, MOST_PIDS)?,
                    _ => return Err(node.refuse("is no limit that is understood")),
                }
            }
        }
    }
    Ok(())
}

/// Less than this cannot hold the runner and a program.
fn memory(node: &Node<'_>) -> Result<u64, InvalidTask> {
    match bytes(node)? {
        size if size < LEAST_MEMORY => Err(node.refuse("want at least 32m")),
        size => Ok(size),
    }
}

/// Other containers of the sandbox, and names that mean something to every resolver.
const RESERVED: [&str; 5] = ["init", "proxy", "runner", "localhost", "assay"];
const LONGEST_NAME: usize = 40;
const DEFAULT_CPU_MILLI: u64 = 500;
const DEFAULT_MEMORY: u64 = 512 << 20;
const DEFAULT_PIDS: u64 = 256;
const DEFAULT_TMPFS: u64 = 64 << 20;
const LEAST_MEMORY: u64 = 32 << 20;
const MOST_PIDS: u64 = 8_192;
