//! The container that runs what a Dockerfile says, for each builder. Pure.
//!
//! Either makes a user namespace of its own first, without the proxy's user, and works in there: outside of it the
//! container can do nothing but map one.

use assay_core::{
    control::build::{RunPlan, Tool, path},
    egress::PROXY_UID,
};
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, SecurityContext, VolumeMount};

use super::{
    super::{
        pod::{amounts, container, mount, only, seccomp, strict},
        settings::Builds,
    },
    job::{BUILD, MIB, Order, json},
};
use crate::Error;

/// What user namespaces with all identities need from whoever maps them: the one privilege of a builder. Whatever
/// mounts, changes root or owner does so inside of such a namespace.
const CAPABILITIES: [&str; 3] = ["SETFCAP", "SETGID", "SETUID"];
/// A build may be quick where nobody else needs the processors.
const CPU_MILLI: u64 = 4_000;
/// Kaniko packs the base's layers anew, in memory: with less it was killed over a base of 121 MB.
const KANIKO_MEMORY: u64 = 512 * MIB;
/// Who unpacks the archive for Kaniko. It opens files in a way that needs rights over their owner, so that one has to be
/// in its namespace, where the proxy's user is not.
const KANIKO_FETCHER: u32 = 65_532;

/// How much memory a build begins with.
pub(super) fn memory(builds: &Builds, wanted: u64) -> u64 {
    let least = match builds.tool {
        Tool::Buildah => 0,
        Tool::Kaniko => KANIKO_MEMORY,
    };
    wanted.max(least).min(builds.most_memory_bytes)
}

/// As whom `fetch` runs. Packet rules, if any, come after it.
pub(super) fn fetcher(tool: Tool) -> u32 {
    match tool {
        Tool::Buildah => PROXY_UID,
        Tool::Kaniko => KANIKO_FETCHER,
    }
}

impl Order<'_> {
    /// The builder, with our program before it.
    pub(super) fn build(&self) -> Result<Container, Error> {
        let program = format!("{}/assay-builder", path::PROGRAM);
        // A kubelet holds all of a pod to the sum of its containers' limits on disk as soon as one of them has one, and the
        // proxy has: so the builder's stands for the volumes too. As for these, nothing is reserved.
        let amount = [
            ("cpu", 500, CPU_MILLI),
            ("memory", self.memory_bytes, self.memory_bytes),
            ("ephemeral-storage", 0, self.all_disk()),
        ];
        let mut mounts = vec![
            mount("bin", path::PROGRAM, true),
            mount("context", path::CONTEXT, true),
            mount("bases", path::BASES, true),
            mount("storage", path::STORAGE, false),
            mount("layout", path::LAYOUT, false),
        ];
        if self.builds.tool == Tool::Buildah {
            // It locks a file there, whatever it is told.
            mounts.push(VolumeMount {
                sub_path: Some("cache".to_owned()),
                ..mount("storage", "/var/cache/containers", false)
            });
        }
        Ok(Container {
            command: Some(vec![program, "run".to_owned(), json(&self.plan())?]),
            security_context: Some(security(self.builds.tool)),
            resources: Some(amounts(&amount)),
            volume_mounts: Some(mounts),
            ..container(BUILD, &self.tool_image)
        })
    }

    fn plan(&self) -> RunPlan {
        let spec = self.spec;
        RunPlan {
            tool: self.builds.tool,
            folder: spec.archive.folder.clone(),
            dockerfile: spec.dockerfile.clone(),
            args: spec.args.clone(),
            bases: self.bases.iter().map(|base| base.name.clone()).collect(),
            network: self.network().is_some(),
            limit_ms: u64::try_from(spec.timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn security(tool: Tool) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        capabilities: Some(only(&CAPABILITIES)),
        read_only_root_filesystem: Some(tool == Tool::Buildah),
        // Making a user namespace and mounting in it is what runtimes' own filters refuse. Buildah filters the steps
        // itself; before Kaniko begins, our program does.
        seccomp_profile: Some(seccomp("Unconfined")),
        app_armor_profile: Some(AppArmorProfile {
            type_: "Unconfined".to_owned(),
            localhost_profile: None,
        }),
        ..strict()
    }
}

#[cfg(test)]
mod tests;
