//! Capabilities.

use std::fs;

use caps::{CapSet, Capability, errors::CapsError};

/// Takes every capability but these from this thread's bounding set: nobody that it starts from now on gets them back.
pub fn bound(kept: &[Capability]) -> Result<(), CapsError> {
    // What the kernel does not know it does not drop.
    let known: u8 = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u8::MAX);
    let dropped = caps::all().into_iter();
    for capability in dropped.filter(|one| one.index() <= known && !kept.contains(one)) {
        caps::drop(None, CapSet::Bounding, capability)?;
    }
    Ok(())
}
