//! GPUs that a task asks for, and whether the engine below hands them out.

use serde::Serialize;

use super::{super::config::Environment, Unplannable};

/// What an engine does for tasks that ask for GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GpuSupport {
    /// It hands out none.
    #[default]
    None,
    /// As many as are asked for, whatever they are.
    Counted,
    /// Also of a type that is asked for.
    Typed,
}

/// The GPUs of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Gpus {
    /// How many.
    pub count: u64,
    /// One of these; any where it is empty, and without meaning where none is asked for.
    pub types: Vec<String>,
}

/// What an environment asks for. `table` is its name in `task.toml`.
pub(super) fn of(environment: &Environment, table: &str, support: GpuSupport) -> Result<Gpus, Unplannable> {
    let count = environment.gpus.and_then(|count| u64::try_from(count).ok());
    let Some(count) = count.filter(|count| *count > 0) else {
        return Ok(Gpus::default());
    };
    let types = environment.gpu_types.clone().unwrap_or_default();
    let refuse = |key: &str, reason: &'static str| {
        let key = format!("{table}.{key}");
        Err(Unplannable::Gpus { key, reason })
    };
    match support {
        GpuSupport::None => refuse("gpus", NONE),
        GpuSupport::Counted if !types.is_empty() => refuse("gpu_types", UNTYPED),
        GpuSupport::Counted | GpuSupport::Typed => Ok(Gpus { count, types }),
    }
}

const NONE: &str = "this screener hands out no GPU; one on Kubernetes does where --gpu-resource names them";
const UNTYPED: &str = "this screener does not know the types of its nodes' GPUs; it does where --gpu-type-label names their label";
