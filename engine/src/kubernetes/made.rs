//! What this process knows of the pods that it has made, so that it need not ask the API server for it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use assay_core::id::SandboxId;

/// The pods that this process has made and not removed yet.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<HashMap<SandboxId, Known>>);

/// A pod of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Tells it from another one of its name.
    pub uid: String,
    /// Its Secret may still be there.
    pub has_files: bool,
}

impl Made {
    /// The API server has taken a pod.
    pub(super) fn add(&self, sandbox: SandboxId, uid: String) {
        let known = Known { uid, has_files: true };
        self.table().insert(sandbox, known);
    }

    /// Its Secret is gone.
    pub(super) fn has_lost_files(&self, sandbox: SandboxId) {
        if let Some(known) = self.table().get_mut(&sandbox) {
            known.has_files = false;
        }
    }

    pub(super) fn get(&self, sandbox: SandboxId) -> Option<Known> {
        self.table().get(&sandbox).cloned()
    }

    /// It is removed.
    pub(super) fn forget(&self, sandbox: SandboxId) {
        self.table().remove(&sandbox);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<SandboxId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
