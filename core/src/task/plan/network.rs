//! What the task asks to reach, phase by phase. What it gets is the policy's word.

use super::{
    super::{
        config::{Config, Environment, NetworkMode, Step},
        support,
    },
    Unplannable,
};
use crate::egress::Egress;

/// What holds where no phase says otherwise.
pub(super) fn baseline(environment: &Environment) -> Result<Egress, Unplannable> {
    egress(environment.network_mode, environment.allowed_hosts.as_deref())
}

/// The step's word, else the task's, else the environment's.
pub(super) fn agent(config: &Config, step: Option<&Step>) -> Result<Egress, Unplannable> {
    let explicit = step
        .map(|step| &step.agent)
        .into_iter()
        .chain([&config.agent])
        .find_map(|agent| Some((agent.network_mode?, agent.allowed_hosts.as_deref())));
    match explicit {
        Some((mode, hosts)) => egress(mode, hosts),
        None => baseline(&config.environment),
    }
}

/// The step's word, else the task's, else that of the environment which the verifier runs in.
pub(super) fn verifier(
    config: &Config,
    step: Option<&Step>,
    environment: &Environment,
) -> Result<Egress, Unplannable> {
    let explicit = step
        .map(|step| &step.verifier)
        .into_iter()
        .chain([&config.verifier])
        .find_map(|verifier| Some((verifier.network_mode?, verifier.allowed_hosts.as_deref())));
    match explicit {
        Some((mode, hosts)) => egress(mode, hosts),
        None => baseline(environment),
    }
}

fn egress(mode: NetworkMode, hosts: Option<&[String]>) -> Result<Egress, Unplannable> {
    match mode {
        NetworkMode::NoNetwork => Ok(Egress::None),
        NetworkMode::Public => Ok(Egress::Public),
        NetworkMode::Allowlist => {
            let hosts = hosts
                .into_iter()
                .flatten()
                .map(|host| support::pattern(host).map_err(|error| Unplannable::Host(error.to_string())))
                .collect::<Result<_, _>>()?;
            Ok(Egress::Hosts { hosts })
        }
    }
}
