//! What a valid task may ask for and Assay does not do: refused by its key.

use super::{
    Compose, Config, InvalidTask, Warning,
    config::{Artifact, Environment, McpServer, NetworkMode, Os, Verifier},
    parse::MAIN,
};
use crate::egress::HostPattern;

/// Refuses by name what Assay does not do.
pub(super) fn check_supported(config: &Config, compose: &Compose) -> Result<(), InvalidTask> {
    check_one_environment(&config.environment, "environment")?;
    check_tools(&config.environment.mcp_servers, compose)?;
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
    Ok(())
}

fn check_one_environment(environment: &Environment, key: &str) -> Result<(), InvalidTask> {
    let refusal = if environment.os == Os::Windows {
        ("os", "Windows containers are not run here")
    } else if environment.tpu.is_some() {
        ("tpu", "no engine hands out TPUs")
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

/// Whether there are GPUs only a screener knows, so nothing is refused before one has the run.
pub(super) fn warn_of_gpus(config: &Config, warnings: &mut Vec<Warning>) {
    let steps = config.steps.iter().flatten().map(|step| &step.verifier);
    let verifiers = std::iter::once(&config.verifier).chain(steps);
    let own = verifiers.filter_map(|verifier| verifier.environment.as_ref());
    let mut all = std::iter::once(&config.environment).chain(own);
    if all.any(|environment| environment.gpus.is_some_and(|gpus| gpus > 0)) {
        warnings.push(Warning {
            rule: "needs-gpus",
            message: "gpus: the task runs only where the operator's screeners hand out GPUs".to_owned(),
        });
    }
}

/// An agent is told of its servers by a file. What would need a container that is not there, or a secret in that file, is
/// refused.
fn check_tools(servers: &[McpServer], compose: &Compose) -> Result<(), InvalidTask> {
    let refuse = |index: usize, key: &str, reason: String| {
        Err(InvalidTask::Unsupported {
            key: format!("environment.mcp_servers[{index}].{key}"),
            reason,
        })
    };
    for (index, server) in servers.iter().enumerate() {
        if !server.headers.is_empty() {
            let reason = "no headers are handed to agents: they would carry credentials".to_owned();
            return refuse(index, "headers", reason);
        }
        let host = server.url.as_deref().map(host).filter(|host| is_service(host));
        if let Some(host) = host.filter(|host| !compose.has(host)) {
            let reason = format!(
                "`{host}` is no service of environment/docker-compose.yaml; \
                 a server in the task's own container is at 127.0.0.1"
            );
            return refuse(index, "url", reason);
        }
    }
    Ok(())
}

/// The host of a URL, without its port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

/// A name that only the services of a compose file could have.
fn is_service(host: &str) -> bool {
    !host.is_empty() && !host.contains('.') && !host.starts_with('[') && host != "localhost"
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
    let reason = "files are collected from `main` alone; let a service give what it has to it".to_owned();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_tools_are_taken_where_one_container_is_enough() {
        for (server, refused) in [
            ("transport='stdio'\ncommand='tools'", None),
            ("url='http://localhost:9000/mcp'", None),
            ("url='http://127.0.0.1:9000/mcp'", None),
            ("url='http://[::1]:9000'", None),
            ("transport='http'\nurl='https://tools.example.org/mcp'", None),
            (
                "url='http://desktop:8000/mcp'",
                Some("environment.mcp_servers[0].url"),
            ),
            (
                "url='http://localhost'\nheaders={Authorization='Bearer ${T}'}",
                Some("environment.mcp_servers[0].headers"),
            ),
        ] {
            let toml = format!("[[environment.mcp_servers]]\nname='x'\n{server}");
            let (config, _) = Config::parse(&toml).unwrap();
            match (check_supported(&config, &Compose::default()), refused) {
                (Ok(()), None) => {}
                (Err(InvalidTask::Unsupported { key, .. }), Some(refused)) => assert_eq!(key, refused),
                (other, _) => panic!("{server}: {other:?}"),
            }
        }
    }
}
