//! A container beside main in the pod of a sandbox. Pure.

use k8s_openapi::api::core::v1::{Container, HostAlias, Volume};

use super::{
    pod::{self, MAIN, MAIN_VOLUME, empty, main_amounts, mount, under_the_runner},
    settings::PodOptions,
};
use crate::{
    ServiceSpec,
    service::{COMMAND, PREFIX},
};

/// Under a runner of its own, with main's rights and no way to more.
pub(super) fn container(spec: &ServiceSpec, image: &str, options: &PodOptions) -> Container {
    let own = mount(&spec.container(), "/assay", false);
    let in_memory = spec
        .tmpfs
        .iter()
        .enumerate()
        .map(|(number, (path, _))| mount(&memory_volume(spec, number), path, false));
    Container {
        command: Some(COMMAND.map(str::to_owned).to_vec()),
        security_context: Some(under_the_runner(false)),
        resources: Some(main_amounts(&spec.resources, options)),
        volume_mounts: Some([own].into_iter().chain(in_memory).collect()),
        ..pod::container(&spec.container(), image)
    }
}

/// What it mounts.
pub(super) fn volumes(spec: &ServiceSpec) -> impl Iterator<Item = Volume> {
    let own = empty(&spec.container(), MAIN_VOLUME, None);
    let in_memory = spec
        .tmpfs
        .iter()
        .enumerate()
        .map(|(number, (_, bytes))| empty(&memory_volume(spec, number), *bytes, Some("Memory")));
    [own].into_iter().chain(in_memory)
}

fn memory_volume(spec: &ServiceSpec, number: usize) -> String {
    format!("{}-tmp-{number}", spec.container())
}

/// Everybody by name at 127.0.0.1, main too.
pub(super) fn names(services: &[(ServiceSpec, String)]) -> Option<Vec<HostAlias>> {
    if services.is_empty() {
        return None;
    }
    let names = services.iter().map(|(spec, _)| spec.name());
    Some(vec![HostAlias {
        ip: "127.0.0.1".to_owned(),
        hostnames: Some([MAIN].into_iter().chain(names).map(str::to_owned).collect()),
    }])
}

/// The service whose container has this name.
pub(super) fn of_container(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}
