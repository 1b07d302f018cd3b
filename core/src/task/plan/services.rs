//! What the containers of a sandbox ask for together must fit into what the operator lets one sandbox have.

use super::{
    super::compose::{Compose, Service},
    Circumstances, Unplannable,
};
use crate::limits::Limits;

/// The task's own container and the services, together.
pub(super) fn check(compose: &Compose, main: &Limits, given: &Circumstances<'_>) -> Result<(), Unplannable> {
    if compose.services.is_empty() {
        return Ok(());
    }
    let most = &given.settings.maximum;
    let sum = |own: u64, of: fn(&Service) -> u64| {
        let each = compose.services.iter().map(of);
        each.fold(own, u64::saturating_add)
    };
    for (what, asked, most) in [
        (
            "MiB of memory",
            sum(main.memory_mb, |service| service.memory_bytes.div_ceil(1 << 20)),
            most.memory_mb,
        ),
        (
            "thousandths of a CPU",
            sum(main.cpu_milli, |service| service.cpu_milli),
            most.cpu_milli,
        ),
        ("processes", sum(main.pids, |service| service.pids), most.pids),
    ] {
        if asked > most {
            return Err(Unplannable::TooMuch(format!(
                "the task's own container and its services ask for {asked} {what} together; the operator allows {most}"
            )));
        }
    }
    Ok(())
}
