//! `[environment]`, of a task or of its verifier.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::{
    super::{
        config::{Environment, Healthcheck, McpServer, NetworkMode, Os, Tpu, Transport},
        document::{float_of, integer_of},
        template,
    },
    InvalidTask, Table, Value, hosts, network_mode, one_of,
};

impl Default for Environment {
    fn default() -> Self {
        Self {
            network_mode: NetworkMode::Public,
            allowed_hosts: None,
            build_timeout_sec: BUILD_TIMEOUT_SEC,
            docker_image: None,
            os: Os::Linux,
            cpus: None,
            memory_mb: None,
            storage_mb: None,
            gpus: None,
            gpu_types: None,
            tpu: None,
            mcp_servers: Vec::new(),
            env: BTreeMap::new(),
            skills_dir: None,
            healthcheck: None,
            workdir: None,
            names_os: false,
        }
    }
}

pub(super) fn read(mut table: Table<'_, '_>) -> Result<Environment, InvalidTask> {
    let memory_mb = size(&mut table, "memory", "memory_mb")?;
    let storage_mb = size(&mut table, "storage", "storage_mb")?;
    let os = table.read("os", |value| os(&value))?;
    let allowed_hosts = table.read("allowed_hosts", |value| hosts::read(&value))?;
    let environment = Environment {
        network_mode: baseline(&mut table, allowed_hosts.as_deref())?,
        allowed_hosts,
        build_timeout_sec: table.float("build_timeout_sec")?.unwrap_or(BUILD_TIMEOUT_SEC),
        docker_image: table.text("docker_image")?,
        os: os.unwrap_or(Os::Linux),
        cpus: table.read("cpus", |value| cpus(&value))?,
        memory_mb,
        storage_mb,
        gpus: table.integer("gpus")?,
        gpu_types: table.read("gpu_types", |value| value.texts())?,
        tpu: table.read("tpu", |value| tpu(value.table()?))?,
        mcp_servers: table
            .read("mcp_servers", |value| {
                value.list(|item| mcp_server(item.table()?))
            })?
            .unwrap_or_default(),
        env: table
            .read("env", |value| value.map(|item| item.text()))?
            .unwrap_or_default(),
        skills_dir: table.text("skills_dir")?,
        healthcheck: table.read("healthcheck", |value| healthcheck(value.table()?))?,
        workdir: table.text("workdir")?,
        names_os: os.is_some(),
    };
    table.finish();
    Ok(environment)
}

/// `network_mode`, or what the old `allow_internet` meant.
fn baseline(table: &mut Table<'_, '_>, hosts: Option<&[String]>) -> Result<NetworkMode, InvalidTask> {
    let mode = table.read("network_mode", |value| network_mode(&value))?;
    let old = table.read("allow_internet", |value| value.flag())?;
    if old.is_some() {
        table.deprecated("allow_internet", "network_mode");
    }
    let has_hosts = hosts.is_some_and(|hosts| !hosts.is_empty());
    if has_hosts && mode != Some(NetworkMode::Allowlist) {
        return Err(table.fault("allowed_hosts", hosts::ONLY_WITH_ALLOWLIST));
    }
    Ok(match (mode, hosts, old) {
        (Some(mode), ..) => mode,
        (None, None, Some(false)) => NetworkMode::NoNetwork,
        (None, ..) => NetworkMode::Public,
    })
}

/// A size in MiB, or the old way to write it, `"2G"`.
fn size(table: &mut Table<'_, '_>, old: &'static str, new: &'static str) -> Result<Option<i64>, InvalidTask> {
    let size = table.integer(new)?;
    let written = table.get(new).and_then(|value| {
        // Compared as written: "2048" is not 2048.
        matches!(value.raw(), DeValue::String(_)).then_some(())
    });
    let Some(value) = table.get(old) else {
        return Ok(size);
    };
    table.deprecated(old, new);
    let DeValue::String(text) = value.raw() else {
        return Ok(size);
    };
    let old_size =
        mebibytes(text).ok_or_else(|| value.fault(format!("{text:?} is no size (want e.g. `2G`)")))?;
    match size {
        Some(size) if size != old_size || written.is_some() => {
            Err(value.fault(format!("{text:?} contradicts {new} = {size}")))
        }
        _ => Ok(Some(old_size)),
    }
}

fn mebibytes(text: &str) -> Option<i64> {
    let text = text.trim().to_uppercase();
    let (number, factor) = [('G', 1024.0), ('M', 1.0), ('K', 1.0 / 1024.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let size: f64 = number.trim().parse::<f64>().ok()? * factor;
    (size.is_finite() && size.abs() < MAX_MEBIBYTES).then(|| format!("{:.0}", size.trunc()).parse().ok())?
}

fn os(value: &Value<'_, '_>) -> Result<Os, InvalidTask> {
    match value.text()?.to_lowercase().as_str() {
        "linux" => Ok(Os::Linux),
        "windows" => Ok(Os::Windows),
        _ => one_of(value, &[("linux", Os::Linux), ("windows", Os::Windows)]),
    }
}

fn cpus(value: &Value<'_, '_>) -> Result<f64, InvalidTask> {
    let cpus = match value.raw() {
        // A number in text is read as an integer first, as are flags.
        #[expect(clippy::cast_precision_loss, reason = "nobody has that many cores")]
        DeValue::String(_) => integer_of(value.raw()).map(|cpus| cpus as f64),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    };
    let cpus = cpus
        .or_else(|| float_of(value.raw()))
        .ok_or_else(|| value.fault("want a number of cores"))?;
    if cpus.is_finite() {
        Ok(cpus)
    } else {
        Err(value.fault("must be finite"))
    }
}

fn tpu(mut table: Table<'_, '_>) -> Result<Tpu, InvalidTask> {
    let kind = table.required("type", |value| {
        value.text().and_then(|text| {
            if text.is_empty() {
                Err(value.fault("must not be empty"))
            } else {
                Ok(text)
            }
        })
    })?;
    let topology = table.required("topology", |value| {
        let text = value.text()?;
        let topology = text.trim();
        let is_axis = |axis: &str| {
            !axis.is_empty() && !axis.starts_with('0') && axis.bytes().all(|byte| byte.is_ascii_digit())
        };
        if topology.contains('x') && topology.split('x').all(is_axis) {
            return Ok(topology.to_owned());
        }
        Err(value.fault(format!("{topology:?} is no topology (want e.g. `2x4`)")))
    })?;
    table.finish();
    Ok(Tpu { kind, topology })
}

pub(super) fn healthcheck(mut table: Table<'_, '_>) -> Result<Healthcheck, InvalidTask> {
    let healthcheck = Healthcheck {
        command: table.required("command", |value| value.text())?,
        interval_sec: table.float("interval_sec")?.unwrap_or(5.0),
        timeout_sec: table.float("timeout_sec")?.unwrap_or(30.0),
        start_period_sec: table.float("start_period_sec")?.unwrap_or(0.0),
        start_interval_sec: table.float("start_interval_sec")?.unwrap_or(5.0),
        retries: table.integer("retries")?.unwrap_or(3),
    };
    table.finish();
    Ok(healthcheck)
}

fn mcp_server(mut table: Table<'_, '_>) -> Result<McpServer, InvalidTask> {
    let server = McpServer {
        name: table.required("name", |value| value.text())?,
        transport: table
            .read("transport", |value| {
                one_of(
                    &value,
                    &[
                        ("stdio", Transport::Stdio),
                        ("sse", Transport::Sse),
                        ("streamable-http", Transport::StreamableHttp),
                        ("http", Transport::StreamableHttp),
                    ],
                )
            })?
            .unwrap_or(Transport::Sse),
        url: table.text("url")?,
        command: table.text("command")?,
        args: table.read("args", |value| value.texts())?.unwrap_or_default(),
        headers: table
            .read("headers", |value| headers(&value))?
            .unwrap_or_default(),
    };
    let lacks = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let fault = match server.transport {
        Transport::Stdio if lacks(&server.command) => Some(("command", "is needed with transport `stdio`")),
        Transport::Stdio if !server.headers.is_empty() => Some(("headers", "only without transport `stdio`")),
        Transport::Sse | Transport::StreamableHttp if lacks(&server.url) => {
            Some(("url", "is needed unless transport is `stdio`"))
        }
        Transport::Stdio | Transport::Sse | Transport::StreamableHttp => None,
    };
    if let Some((key, fault)) = fault {
        return Err(table.fault(key, fault));
    }
    table.finish();
    Ok(server)
}

fn headers(value: &Value<'_, '_>) -> Result<BTreeMap<String, String>, InvalidTask> {
    let headers: BTreeMap<String, String> = value.map(|item| item.text())?;
    for (name, text) in &headers {
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || SIGNS.contains(&byte));
        let fault = if !is_name {
            "is no name of a header"
        } else if text.contains(['\r', '\n']) {
            "must not contain newlines"
        } else if template::has_malformed(text) {
            "has a malformed `${VAR}`"
        } else if template::has_literal_credential(name, text) {
            "must name its credential as `${VAR}` without a default"
        } else {
            continue;
        };
        return Err(value.fault(format!("header {name:?} {fault}")));
    }
    Ok(headers)
}

const SIGNS: &[u8] = b"!#$%&'*+.^_`|~-";
const BUILD_TIMEOUT_SEC: f64 = 600.0;
const MAX_MEBIBYTES: f64 = 9.0e15;
