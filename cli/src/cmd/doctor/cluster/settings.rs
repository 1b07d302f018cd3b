//! What the screeners of a cluster are told: by their `ConfigMap`, with options of the command line over it.

use std::collections::BTreeMap;

use assay_engine::kubernetes::{Access, Inspector, Settings};
use assay_screener::cmd::{Arguments, Command};
use clap::{ArgAction, CommandFactory as _, Parser as _};

use crate::{args::ClusterAt, cmd::doctor::failed, error::Error};

/// How the command line says that the cluster is reached.
pub(super) fn access(at: &ClusterAt) -> Access {
    Access {
        kubeconfig: at.kubeconfig.clone(),
        context: at.context.clone(),
    }
}

/// The engine's settings as the screeners have them, for an owner of our own.
pub(super) async fn of(
    inspector: &Inspector,
    access: Access,
    system: &str,
    more: &[String],
) -> Result<Settings, Error> {
    let told = inspector.settings(system, "screener").await.map_err(failed)?;
    let usage = |error: clap::Error| Error::Usage(error.to_string());
    let Command::Run(run) = Arguments::try_parse_from(words(&told, more))
        .map_err(usage)?
        .command;
    let mut settings = run.cluster.settings().map_err(|error| {
        Error::Config(format!(
            "{error:#}; name it after `--`, or install the manifests, whose ConfigMap {system}/screener says it"
        ))
    })?;
    settings.access = access;
    settings.owner = format!("doctor-{}", std::process::id());
    Ok(settings)
}

/// A command line of `assay-screener run`. What it needs and we do not is made up.
fn words(told: &BTreeMap<String, String>, more: &[String]) -> Vec<String> {
    let fixed = [
        "assay-screener",
        "run",
        "--engine",
        "kubernetes",
        "--api",
        "unused",
        "--key-file",
        "unused",
    ];
    let mut words: Vec<String> = fixed.map(str::to_owned).into();
    let command = Arguments::command();
    let options = command
        .find_subcommand("run")
        .into_iter()
        .flat_map(clap::Command::get_arguments);
    for option in options.filter(|option| !["engine", "api", "key_file"].contains(&option.get_id().as_str()))
    {
        let value = option.get_env().and_then(|name| told.get(name.to_str()?));
        let (Some(long), Some(value)) = (option.get_long(), value) else {
            continue;
        };
        // What stands on our own command line is not said twice.
        let flag = format!("--{long}");
        if more
            .iter()
            .any(|word| *word == flag || word.starts_with(&format!("{flag}=")))
        {
            continue;
        }
        let is_switch = matches!(option.get_action(), ArgAction::SetTrue);
        if !is_switch {
            words.push(format!("{flag}={value}"));
        } else if value == "true" {
            words.push(flag);
        }
    }
    words.extend(more.iter().cloned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screeners_settings_become_their_command_line() {
        let told = [
            ("ASSAY_INIT_IMAGE", "r/init@sha256:1"),
            ("ASSAY_PROXY_IMAGE", "r/proxy@sha256:2"),
            ("ASSAY_MIRRORS", "docker.io=http://r:5000,r=http://r"),
            ("ASSAY_USER_NAMESPACE", "true"),
            ("ASSAY_ENGINE", "kubernetes"),
            ("SOMETHING_ELSE", "x"),
        ];
        let told = told.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let more = ["--proxy-image".to_owned(), "other/proxy@sha256:3".to_owned()];
        let Command::Run(run) = Arguments::try_parse_from(words(&told, &more)).unwrap().command;
        let settings = run.cluster.settings().unwrap();
        assert_eq!(settings.images.init, "r/init@sha256:1");
        assert_eq!(settings.images.proxy, "other/proxy@sha256:3");
        assert_eq!(settings.registries.mirrors["r"], "http://r");
        assert!(settings.pods.user_namespace);
    }
}
