//! Is the shell that starts the verifier still the image's own?
//!
//! In a shared sandbox the verifier runs in what the agent has left. An agent that replaces the shell would decide
//! whether there is a reward at all, and a run without one is nobody's zero.

use std::{collections::BTreeMap, io, path::PathBuf};

use assay_core::{
    control::runner::Collect,
    digest::{Digest, Hasher},
    task::plan::Mode,
};
use assay_engine::Engine;

use super::{
    Driver, Halt,
    live::{Collected, Live},
};
use crate::evidence::Evidence;

impl<E: Engine> Driver<E> {
    /// Remembers the shell before the first command of an agent's own.
    pub(super) async fn remember_shell(&mut self, live: &Live) -> Result<(), Halt> {
        let shared = matches!(self.step_plan()?.verifier.mode, Mode::Shared { .. });
        if shared && self.assignment.contract.has_bundle() && self.row.memo.shell.is_empty() {
            self.row.memo.shell = self.shell(live).await?;
            self.journal.flush(&self.site.platform, &self.row).await?;
        }
        Ok(())
    }

    /// Refuses to start a verifier by a shell that was changed. One that was added may stay.
    pub(super) async fn check_shell(&mut self, live: &Live) -> Result<(), Halt> {
        if self.row.memo.shell.is_empty() {
            return Ok(());
        }
        let now = self.shell(live).await?;
        let changed = |(path, digest): &(&String, &Digest)| now.get(*path) != Some(*digest);
        match self.row.memo.shell.iter().find(changed) {
            None => Ok(()),
            Some((path, _)) => {
                let detail = format!("/{path} is not the image's any more: the verifier is started by it");
                Err(Evidence::Planted(detail).into())
            }
        }
    }

    async fn shell(&self, live: &Live) -> Result<BTreeMap<String, Digest>, Halt> {
        let request = Collect {
            paths: SHELLS.map(str::to_owned).to_vec(),
            exclude: BTreeMap::new(),
            max_bytes: MAX_BYTES,
            max_entries: SHELLS.len() as u64,
        };
        let tar = self.folder.join("shell.tar");
        match live.collect(&request, &tar).await? {
            // No shell is that large.
            Collected::TooBig(_) => Ok(BTreeMap::new()),
            Collected::Here(_) => tokio::task::spawn_blocking(move || digests(tar))
                .await
                .map_err(|error| Evidence::Bug(error.to_string()))?
                .map_err(|error| Evidence::Silent(format!("the shell cannot be read: {error}")).into()),
        }
    }
}

/// What each entry is: kind, where it points, content.
fn digests(tar: PathBuf) -> io::Result<BTreeMap<String, Digest>> {
    let mut archive = tar::Archive::new(io::BufReader::new(std::fs::File::open(tar)?));
    let mut found = BTreeMap::new();
    // The first entry is the manifest.
    for entry in archive.entries()?.skip(1) {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut hasher = Hasher::default();
        hasher.update(&[entry.header().entry_type().as_byte()]);
        hasher.update(&entry.link_name_bytes().unwrap_or_default());
        let mut buffer = vec![0; 64 << 10];
        loop {
            match io::Read::read(&mut entry, &mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        found.insert(path, hasher.finish());
    }
    Ok(found)
}

/// By what the verifier's script is started, and what those names lead to in the usual images.
const SHELLS: [&str; 4] = ["/bin/sh", "/bin/bash", "/bin/dash", "/bin/busybox"];
const MAX_BYTES: u64 = 32 << 20;
