//! Phase `collect`: hooks, then what is kept of the agent's work: artifacts, and the diff of a `patch` agent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use assay_core::{
    agent::Contract,
    control::runner::{Collect, EntryKind},
    digest::Digest,
    patch,
    task::{config::Artifact, plan::Mode},
    wire::worker::PutArtifact,
};
use assay_engine::Engine;

use super::{
    Driver, Halt,
    bundle::{DIFF, REFUSAL},
    execute::Job,
    live::{Collected, Live},
    retar::Destinations,
};
use crate::{
    evidence::{Evidence, PatchState},
    platform::transfer,
    row::seconds,
};

impl<E: Engine> Driver<E> {
    pub(super) async fn collect(&mut self) -> Result<Vec<Evidence>, Halt> {
        let live = self.main().await?;
        let step = self.step_plan()?;
        for (number, hook) in step.collect.iter().enumerate() {
            let user = hook.user.as_ref().map(ToString::to_string);
            let job = Job::of_task(
                &format!("hook {number}"),
                &hook.command,
                user.or_else(|| live.image_user()),
                seconds(hook.timeout_sec),
            );
            self.execute(&live, job).await?;
        }
        if matches!(step.verifier.mode, Mode::Separate(_)) && self.is_last_step() {
            // No process of the agent may change what is taken while it is taken. Before the last step they stay: what was
            // started in one step may be needed in the next.
            live.kill().await?;
        }
        self.collect_artifacts(&live).await?;
        if self.assignment.contract == Contract::Patch {
            return self.collect_diff(&live).await;
        }
        Ok(vec![Evidence::Collected])
    }

    fn is_last_step(&self) -> bool {
        let outline = self.row.memo.outline.as_ref();
        let steps = outline.map_or(0, |outline| outline.steps.len());
        usize::try_from(self.row.step).is_ok_and(|step| step + 1 >= steps)
    }

    async fn collect_artifacts(&mut self, live: &Live) -> Result<(), Halt> {
        let artifacts = self.step_plan()?.artifacts;
        let workdir = live.workdir();
        let request = Collect {
            paths: sources(&workdir, &artifacts)
                .chain(["/logs/agent".to_owned()])
                .collect(),
            exclude: exclude(&workdir, &artifacts),
            max_bytes: MAX_ARTIFACT_BYTES,
            max_entries: MAX_ENTRIES,
        };
        let file = self.folder.join("artifacts.tar");
        match live.collect(&request, &file).await? {
            Collected::TooBig(message) => {
                let now = self.now();
                let data = serde_json::json!({ "detail": message });
                self.journal.note(&self.row, now, "artifacts_too_big", data);
                Ok(())
            }
            Collected::Here(manifest) => {
                let any = manifest.entries.iter().any(|entry| entry.kind == EntryKind::File);
                if !any {
                    return Ok(());
                }
                let file = match Destinations::of(&artifacts, &workdir) {
                    Some(destinations) => self.moved(&file, destinations).await?,
                    None => file,
                };
                self.store(&self.step_name("artifacts.tar"), "application/x-tar", &file)
                    .await
            }
        }
    }

    /// The collection with every artifact at its destination.
    async fn moved(&self, file: &Path, destinations: Destinations) -> Result<PathBuf, Halt> {
        let moved = self.folder.join("destinations.tar");
        super::retar::copy(file, &moved, 0, move |path| destinations.of_entry(path))
            .await
            .map_err(super::fetch::local(&moved))?;
        Ok(moved)
    }

    async fn collect_diff(&mut self, live: &Live) -> Result<Vec<Evidence>, Halt> {
        let state = match self.fetch_diff(live).await? {
            None => match self.fetch_text(live, REFUSAL, MAX_REFUSAL).await? {
                Some(reason) => PatchState::Unusable(reason),
                None => PatchState::Missing,
            },
            Some(diff) => match patch::check(&diff) {
                Err(patch::InvalidPatch::Empty) => PatchState::Missing,
                Err(error) => PatchState::Invalid(error.to_string()),
                Ok(text) => {
                    let file = self.diff_file();
                    tokio::fs::write(&file, text.as_bytes())
                        .await
                        .map_err(super::fetch::local(&file))?;
                    self.row.memo.patch = Some(Digest::of(text.as_bytes()));
                    self.store(&self.step_name("patch.diff"), "text/x-diff", &file)
                        .await?;
                    PatchState::Good
                }
            },
        };
        Ok(vec![Evidence::Patch(state), Evidence::Collected])
    }

    /// The bytes of the diff in the sandbox; `None` when there is none.
    pub(super) async fn fetch_diff(&mut self, live: &Live) -> Result<Option<Vec<u8>>, Halt> {
        let request = Collect {
            paths: vec![DIFF.to_owned()],
            exclude: BTreeMap::new(),
            max_bytes: patch::MAX_BYTES as u64 + 1,
            max_entries: 8,
        };
        let tar = self.folder.join("diff.tar");
        match live.collect(&request, &tar).await? {
            // Longer than any diff that is taken: the check tells it.
            Collected::TooBig(_) => Ok(Some(vec![b' '; patch::MAX_BYTES + 1])),
            Collected::Here(_) => super::live::file_in(&tar, DIFF, patch::MAX_BYTES + 1).await,
        }
    }

    /// A short text in the sandbox; `None` when there is none.
    async fn fetch_text(&mut self, live: &Live, path: &str, most: usize) -> Result<Option<String>, Halt> {
        let request = Collect {
            paths: vec![path.to_owned()],
            exclude: BTreeMap::new(),
            max_bytes: most as u64,
            max_entries: 8,
        };
        let tar = self.folder.join("text.tar");
        let bytes = match live.collect(&request, &tar).await? {
            Collected::TooBig(_) => None,
            Collected::Here(_) => super::live::file_in(&tar, path, most).await?,
        };
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Where the diff lies on this machine.
    pub(super) fn diff_file(&self) -> PathBuf {
        self.folder.join("patch.diff")
    }

    /// The name of an artifact of this step.
    pub(super) fn step_name(&self, name: &str) -> String {
        if self.has_several_steps() {
            format!("step-{}-{name}", self.row.step)
        } else {
            name.to_owned()
        }
    }

    /// Uploads a file as an artifact.
    pub(super) async fn store(&mut self, name: &str, media_type: &str, file: &Path) -> Result<(), Halt> {
        let (size_bytes, digest) = transfer::measure(file).await?;
        let body = PutArtifact {
            fence: self.assignment.fence,
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            size_bytes,
            digest,
        };
        let upload = self
            .site
            .platform
            .artifact(self.assignment.attempt, &body)
            .await?;
        transfer::put(&upload.url, &body, file).await?;
        Ok(())
    }
}

/// Where the artifacts are.
pub(super) fn sources(workdir: &str, artifacts: &[Artifact]) -> impl Iterator<Item = String> {
    artifacts
        .iter()
        .map(move |artifact| absolute(workdir, &artifact.source))
}

/// What is left out of each of them, and of no other.
pub(super) fn exclude(workdir: &str, artifacts: &[Artifact]) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for artifact in artifacts.iter().filter(|artifact| !artifact.exclude.is_empty()) {
        let source = absolute(workdir, &artifact.source);
        all.entry(source)
            .or_default()
            .extend(artifact.exclude.iter().cloned());
    }
    all
}

pub(super) fn absolute(workdir: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{}/{path}", workdir.trim_end_matches('/'))
    }
}

const MAX_ARTIFACT_BYTES: u64 = 2 << 30;
const MAX_ENTRIES: u64 = 100_000;
const MAX_REFUSAL: usize = 1 << 10;
