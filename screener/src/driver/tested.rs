//! What single tests said: the report that a verifier left, shortened and kept as one small artifact.

use std::path::Path;

use assay_core::{
    control::runner::{Entry, EntryKind, Manifest},
    reward::{Report, TestStatus},
};
use assay_engine::Engine;

use super::{Driver, Halt, fetch::local, live};

impl<E: Engine> Driver<E> {
    /// Keeps the report of a step as `tests.json`. A verifier without one, or with one that cannot be read, loses nothing.
    pub(super) async fn keep_report(&mut self, tar: &Path, manifest: &Manifest) -> Result<(), Halt> {
        for path in candidates(manifest) {
            let bytes = live::file_in(tar, &path, MAX_BYTES).await?.unwrap_or_default();
            let Some(report) = Report::read(&path, &bytes).filter(|report| !report.tests.is_empty()) else {
                continue;
            };
            let file = self.folder.join("tests.json");
            let text = serde_json::to_vec(&report).unwrap_or_default();
            tokio::fs::write(&file, text).await.map_err(local(&file))?;
            self.store(&self.step_name("tests.json"), "application/json", &file)
                .await?;
            let now = self.now();
            let data = serde_json::json!({
                "file": path,
                "passed": report.count(TestStatus::Passed),
                "failed": report.count(TestStatus::Failed),
                "all": report.tests.len(),
            });
            self.journal.note(&self.row, now, "tests", data);
            return Ok(());
        }
        Ok(())
    }
}

/// Files that may be a report: `ctrf.json` first, then other JSON, then XML.
fn candidates(manifest: &Manifest) -> Vec<String> {
    let rank = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        match (name, name.rsplit_once('.')) {
            ("reward.json", _) => None,
            ("ctrf.json", _) => Some(0),
            (_, Some((_, "json"))) => Some(1),
            (_, Some((_, "xml"))) => Some(2),
            _ => None,
        }
    };
    let fits = |entry: &&Entry| entry.kind == EntryKind::File && entry.size <= MAX_BYTES as u64;
    let mut found: Vec<(i32, &str)> = manifest
        .entries
        .iter()
        .filter(fits)
        .filter_map(|entry| Some((rank(&entry.path)?, entry.path.as_str())))
        .collect();
    found.sort_unstable();
    found.truncate(MOST_TRIED);
    found.into_iter().map(|(_, path)| path.to_owned()).collect()
}

const MAX_BYTES: usize = 16 << 20;
const MOST_TRIED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_tried_in_order_and_rewards_never() {
        let entry = |path: &str, size| Entry {
            path: path.to_owned(),
            size,
            mode: 0o644,
            kind: EntryKind::File,
        };
        let manifest = Manifest {
            entries: vec![
                entry("/logs/verifier/a.xml", 1),
                entry("/logs/verifier/reward.json", 1),
                entry("/logs/verifier/a.json", 1),
                entry("/logs/verifier/z/ctrf.json", 1),
                entry("/logs/verifier/huge.json", 1 << 30),
                entry("/logs/verifier/test-stdout.txt", 1),
            ],
            missing: Vec::new(),
        };
        assert_eq!(
            candidates(&manifest),
            [
                "/logs/verifier/z/ctrf.json",
                "/logs/verifier/a.json",
                "/logs/verifier/a.xml"
            ]
        );
    }
}
