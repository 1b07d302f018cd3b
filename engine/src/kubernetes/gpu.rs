//! What a pod says so that main gets the GPUs that its task asks for. Pure.

use std::collections::BTreeMap;

use assay_core::task::plan::Gpus;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration,
};

use super::settings::{GpuNames, PodOptions};

/// The devices of main. A task's own number stands above one that every task gets, and never below it.
pub(super) fn devices(gpus: &Gpus, options: &PodOptions) -> BTreeMap<String, u64> {
    let mut devices = options.devices.clone();
    if let Some(names) = asked(gpus, options) {
        let count = devices.entry(names.resource.clone()).or_default();
        *count = gpus.count.max(*count);
    }
    devices
}

/// Nodes with one of the types.
pub(super) fn affinity(gpus: &Gpus, options: &PodOptions) -> Option<Affinity> {
    let label = asked(gpus, options)?.type_label.clone()?;
    let types = Some(gpus.types.clone()).filter(|types| !types.is_empty())?;
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: label,
            operator: "In".to_owned(),
            values: Some(types),
        }]),
        ..NodeSelectorTerm::default()
    };
    Some(Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    })
}

/// Nodes with GPUs are commonly closed to everybody else, by a taint named like the resource.
pub(super) fn tolerations(gpus: &Gpus, options: &PodOptions) -> Vec<Toleration> {
    let own = asked(gpus, options).map(|names| Toleration {
        key: Some(names.resource.clone()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    });
    options.tolerations.iter().cloned().chain(own).collect()
}

/// What they are called, where any are asked for.
fn asked<'a>(gpus: &Gpus, options: &'a PodOptions) -> Option<&'a GpuNames> {
    options.gpus.as_ref().filter(|_| gpus.count > 0)
}
