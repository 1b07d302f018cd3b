//! From `task.toml` to [`Config`]: accepts and refuses what Harbor's own parser does.

mod environment;
mod hosts;
mod names;

use toml::de::DeValue;

use super::{
    InvalidTask, Warning,
    config::{
        Agent, Artifact, Author, Collect, Config, EnvironmentMode, MinReward, NetworkMode, Package, Solution,
        Step, Strategy, User, Verifier,
    },
    document::{Document, Table, Value, float_of, integer_of},
};

impl Config {
    /// Reads the text of a `task.toml`. Unknown and old keys become warnings.
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), InvalidTask> {
        let document = Document::new(text);
        let table = document.parse()?;
        let config = root(document.root(&table))?;
        drop(table);
        Ok((config, document.into_warnings()))
    }
}

fn root(mut table: Table<'_, '_>) -> Result<Config, InvalidTask> {
    let new = table.get("schema_version");
    let old = table.get("version");
    let schema_version = new
        .or(old)
        .map_or_else(|| Ok(NEWEST_SCHEMA.to_owned()), |value| value.text())?;
    let config = Config {
        schema_version,
        task: table.read("task", |value| package(value.table()?))?,
        metadata: table
            .read("metadata", |value| metadata(&value))?
            .unwrap_or_default(),
        verifier: table
            .read("verifier", |value| verifier(value.table()?))?
            .unwrap_or_default(),
        agent: table
            .read("agent", |value| agent(value.table()?))?
            .unwrap_or_default(),
        environment: table
            .read("environment", |value| environment::read(value.table()?))?
            .unwrap_or_default(),
        solution: table
            .read("solution", |value| solution(value.table()?))?
            .unwrap_or_default(),
        source: table.text("source")?,
        multi_step_reward_strategy: table.read("multi_step_reward_strategy", |value| strategy(&value))?,
        steps: table.read("steps", |value| steps(&value))?,
        artifacts: table
            .read("artifacts", |value| value.list(|item| artifact(&item)))?
            .unwrap_or_default(),
    };
    table.finish();
    Ok(config)
}

fn package(mut table: Table<'_, '_>) -> Result<Package, InvalidTask> {
    let package = Package {
        name: table.required("name", |value| {
            let name = value.text()?;
            if names::is_package(&name) {
                return Ok(name);
            }
            Err(value.fault(format!(
                "want org/name of letters, digits, `-`, `_` and `.`, found {name:?}"
            )))
        })?,
        version: table.read("version", |value| {
            value.text().and_then(|text| {
                if text.is_empty() {
                    Err(value.fault("must not be empty"))
                } else {
                    Ok(text)
                }
            })
        })?,
        description: table.text("description")?.unwrap_or_default(),
        authors: table
            .read("authors", |value| value.list(|item| author(item.table()?)))?
            .unwrap_or_default(),
        keywords: table.read("keywords", |value| value.texts())?.unwrap_or_default(),
    };
    table.finish();
    Ok(package)
}

fn author(mut table: Table<'_, '_>) -> Result<Author, InvalidTask> {
    let author = Author {
        name: table.required("name", |value| value.text())?,
        email: table.text("email")?,
    };
    table.finish();
    Ok(author)
}

fn solution(mut table: Table<'_, '_>) -> Result<Solution, InvalidTask> {
    let env = table
        .read("env", |value| value.map(|item| item.text()))?
        .unwrap_or_default();
    table.finish();
    Ok(Solution { env })
}

fn agent(mut table: Table<'_, '_>) -> Result<Agent, InvalidTask> {
    let agent = Agent {
        network_mode: table.read("network_mode", |value| network_mode(&value))?,
        allowed_hosts: table.read("allowed_hosts", |value| hosts::read(&value))?,
        timeout_sec: table.float("timeout_sec")?,
        user: table.read("user", |value| user(&value))?,
    };
    check_phase_hosts(&table, agent.network_mode, agent.allowed_hosts.as_deref())?;
    table.finish();
    Ok(agent)
}

fn verifier(mut table: Table<'_, '_>) -> Result<Verifier, InvalidTask> {
    let verifier = Verifier {
        network_mode: table.read("network_mode", |value| network_mode(&value))?,
        allowed_hosts: table.read("allowed_hosts", |value| hosts::read(&value))?,
        timeout_sec: table.float("timeout_sec")?.unwrap_or(VERIFIER_TIMEOUT_SEC),
        env: table
            .read("env", |value| value.map(|item| item.text()))?
            .unwrap_or_default(),
        user: table.read("user", |value| user(&value))?,
        environment_mode: table.read("environment_mode", |value| environment_mode(&value))?,
        environment: table.read("environment", |value| environment::read(value.table()?))?,
        collect: table
            .read("collect", |value| value.list(|item| collect(item.table()?)))?
            .unwrap_or_default(),
    };
    check_phase_hosts(&table, verifier.network_mode, verifier.allowed_hosts.as_deref())?;
    if verifier.environment_mode == Some(EnvironmentMode::Shared) && verifier.environment.is_some() {
        return Err(table.fault(
            "environment_mode",
            "`shared` contradicts [verifier.environment]; leave one of them out",
        ));
    }
    table.finish();
    Ok(verifier)
}

fn collect(mut table: Table<'_, '_>) -> Result<Collect, InvalidTask> {
    let collect = Collect {
        command: table.required("command", |value| value.text())?,
        service: table
            .read("service", |value| service(&value))?
            .unwrap_or_else(|| MAIN.to_owned()),
        timeout_sec: table.float("timeout_sec")?.unwrap_or(COLLECT_TIMEOUT_SEC),
        user: table.read("user", |value| user(&value))?,
    };
    table.finish();
    Ok(collect)
}

fn steps(value: &Value<'_, '_>) -> Result<Vec<Step>, InvalidTask> {
    let steps = value.list(|item| step(item.table()?))?;
    let mut seen = std::collections::BTreeSet::new();
    for step in &steps {
        if !seen.insert(names::step_key(&step.name)) {
            return Err(value.fault(format!(
                "two steps are called {:?} (upper and lower case count as the same)",
                step.name
            )));
        }
    }
    Ok(steps)
}

fn step(mut table: Table<'_, '_>) -> Result<Step, InvalidTask> {
    let step = Step {
        name: table.required("name", |value| {
            let name = value.text()?;
            names::check_step(&name).map_err(|fault| value.fault(fault))?;
            Ok(name)
        })?,
        agent: table
            .read("agent", |value| agent(value.table()?))?
            .unwrap_or_default(),
        verifier: table
            .read("verifier", |value| verifier(value.table()?))?
            .unwrap_or_default(),
        min_reward: table.read("min_reward", |value| match value.raw() {
            DeValue::Table(_) => value.map(|item| item.float()).map(MinReward::Keys),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => value.float().map(MinReward::One),
        })?,
        healthcheck: table.read("healthcheck", |value| environment::healthcheck(value.table()?))?,
        artifacts: table
            .read("artifacts", |value| value.list(|item| artifact(&item)))?
            .unwrap_or_default(),
    };
    table.finish();
    Ok(step)
}

fn artifact(value: &Value<'_, '_>) -> Result<Artifact, InvalidTask> {
    if let DeValue::String(_) = value.raw() {
        let source = artifact_source(value)?;
        return Ok(Artifact {
            source,
            destination: None,
            exclude: Vec::new(),
            service: None,
        });
    }
    let mut table = value.table()?;
    let artifact = Artifact {
        source: table.required("source", |value| artifact_source(&value))?,
        destination: table
            .read("destination", |value| artifact_destination(&value))?
            .flatten(),
        exclude: table.read("exclude", |value| value.texts())?.unwrap_or_default(),
        service: table.read("service", |value| service(&value))?,
    };
    let is_sidecar = artifact.service.as_deref().is_some_and(|service| service != MAIN);
    if is_sidecar && !names::is_absolute(&artifact.source) {
        return Err(table.fault("source", "must be absolute where `service` is not main"));
    }
    table.finish();
    Ok(artifact)
}

fn artifact_source(value: &Value<'_, '_>) -> Result<String, InvalidTask> {
    let source = value.text()?;
    if source.split('/').any(|part| part == "..") {
        return Err(value.fault(format!("{source:?} must not contain `..`")));
    }
    Ok(source)
}

fn artifact_destination(value: &Value<'_, '_>) -> Result<Option<String>, InvalidTask> {
    let destination = value.text()?;
    if destination.is_empty() {
        return Ok(None);
    }
    let names_nothing = destination.split('/').all(|part| part.is_empty() || part == ".");
    let fault = if destination.contains('\\') {
        "must use forward slashes"
    } else if destination.starts_with('/') {
        "must be relative"
    } else if names_nothing {
        "must name a file or a folder"
    } else if destination.split('/').any(|part| part == "..") {
        "must not contain `..`"
    } else if destination.trim_end_matches('/') == "manifest.json" {
        "is reserved for the manifest"
    } else {
        return Ok(Some(destination));
    };
    Err(value.fault(format!("{destination:?} {fault}")))
}

fn service(value: &Value<'_, '_>) -> Result<String, InvalidTask> {
    let text = value.text()?;
    let service = text.trim();
    if names::is_service(service) {
        return Ok(service.to_owned());
    }
    Err(value.fault(format!(
        "{service:?} is no service name (letters, digits, `-`, `_`, `.`)"
    )))
}

fn user(value: &Value<'_, '_>) -> Result<User, InvalidTask> {
    if let DeValue::String(name) = value.raw() {
        return Ok(User::Name(name.to_string()));
    }
    integer_of(value.raw())
        .map(User::Id)
        .ok_or_else(|| value.fault("want a user's name or number"))
}

fn network_mode(value: &Value<'_, '_>) -> Result<NetworkMode, InvalidTask> {
    one_of(
        value,
        &[
            ("no-network", NetworkMode::NoNetwork),
            ("public", NetworkMode::Public),
            ("allowlist", NetworkMode::Allowlist),
        ],
    )
}

fn environment_mode(value: &Value<'_, '_>) -> Result<EnvironmentMode, InvalidTask> {
    one_of(
        value,
        &[
            ("shared", EnvironmentMode::Shared),
            ("separate", EnvironmentMode::Separate),
        ],
    )
}

fn strategy(value: &Value<'_, '_>) -> Result<Strategy, InvalidTask> {
    one_of(value, &[("mean", Strategy::Mean), ("final", Strategy::Final)])
}

/// Reads one of some words.
fn one_of<T: Copy>(value: &Value<'_, '_>, words: &[(&str, T)]) -> Result<T, InvalidTask> {
    let text = value.text()?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            value.fault(format!("want {}, found {text:?}", words.join(" or ")))
        })
}

/// `allowed_hosts` of an agent or a verifier stands beside `network_mode = "allowlist"` only.
fn check_phase_hosts(
    table: &Table<'_, '_>,
    mode: Option<NetworkMode>,
    hosts: Option<&[String]>,
) -> Result<(), InvalidTask> {
    let is_lost = match mode {
        None => hosts.is_some(),
        Some(NetworkMode::Allowlist) => false,
        Some(NetworkMode::Public | NetworkMode::NoNetwork) => hosts.is_some_and(|hosts| !hosts.is_empty()),
    };
    if is_lost {
        Err(table.fault("allowed_hosts", hosts::ONLY_WITH_ALLOWLIST))
    } else {
        Ok(())
    }
}

fn metadata(value: &Value<'_, '_>) -> Result<serde_json::Map<String, serde_json::Value>, InvalidTask> {
    value.map(|item| Ok(json(item.raw())))
}

/// Free data as JSON; dates become text, what JSON cannot say becomes null.
fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(_) => integer_of(value).into(),
        DeValue::Float(_) => float_of(value).into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, item)| (key.get_ref().to_string(), json(item.get_ref())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            network_mode: None,
            allowed_hosts: None,
            timeout_sec: VERIFIER_TIMEOUT_SEC,
            env: std::collections::BTreeMap::new(),
            user: None,
            environment_mode: None,
            environment: None,
            collect: Vec::new(),
        }
    }
}

/// The service that the agent works in.
pub(super) const MAIN: &str = "main";
const NEWEST_SCHEMA: &str = "1.4";
const VERIFIER_TIMEOUT_SEC: f64 = 600.0;
const COLLECT_TIMEOUT_SEC: f64 = 60.0;

#[cfg(test)]
mod tests;
