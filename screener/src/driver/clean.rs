//! What must be gone before somebody looks: rewards that an agent planted, and what a step left that the next one may not
//! see, its tests and its rewards above all.

use std::collections::BTreeMap;

use assay_core::{control::runner::Collect, reward};
use assay_engine::Engine;

use super::{
    Driver, Halt,
    execute::Job,
    live::{Collected, Live},
};
use crate::{evidence::Evidence, row::Mode};

impl<E: Engine> Driver<E> {
    /// Before anything of a later step runs: the logs of the agent, and where the verifier ran in this sandbox, too, its
    /// tests and its results. Done again by a worker that takes over, until the step's own commands have begun.
    pub(super) async fn clean_for_step(&mut self, live: &Live) -> Result<(), Halt> {
        if self.row.step == 0 {
            return Ok(());
        }
        if self.row.memo.mode == Some(Mode::Shared) {
            self.remove(live, &[AGENT_LOGS, VERIFIER_LOGS, TESTS]).await?;
        } else {
            self.remove(live, &[AGENT_LOGS]).await?;
        }
        self.skeleton(live).await
    }

    /// Before a verifier runs in the agent's sandbox. `/tests` of an image that brings its own stays where there is one
    /// step; steps have their own.
    pub(super) async fn clean_for_verifier(&mut self, live: &Live) -> Result<(), Halt> {
        if !self.has_several_steps() {
            return self.remove(live, &[reward::JSON_PATH, reward::TEXT_PATH]).await;
        }
        self.remove(live, &[VERIFIER_LOGS, TESTS]).await?;
        self.skeleton(live).await
    }

    pub(super) fn has_several_steps(&self) -> bool {
        let outline = self.row.memo.outline.as_ref();
        outline.is_some_and(|outline| outline.steps.len() > 1)
    }

    /// Removes files and folders as root, and makes sure of it.
    async fn remove(&mut self, live: &Live, paths: &[&str]) -> Result<(), Halt> {
        let there = self.present(live, paths).await?;
        if there.is_empty() {
            return Ok(());
        }
        let mut argv = vec!["rm".to_owned(), "-rf".to_owned(), "--".to_owned()];
        argv.extend(there);
        let job = Job {
            argv,
            // A worker that takes over removes by itself: what is there now may have been uploaded since.
            ..Job::shell(&format!("clean {}", self.assignment.fence), "", LIMIT)
        };
        self.execute(live, job).await?;
        let left = self.present(live, paths).await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Evidence::Planted(format!("{} cannot be removed", left.join(", "))).into())
    }

    /// Which of them are there. Nobody wants their content: a collection that is refused for its size tells enough.
    async fn present(&self, live: &Live, paths: &[&str]) -> Result<Vec<String>, Halt> {
        let request = Collect {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            exclude: BTreeMap::new(),
            max_bytes: 0,
            max_entries: FEW,
        };
        let file = self.folder.join("present.tar");
        Ok(match live.collect(&request, &file).await? {
            Collected::TooBig(_) => request.paths,
            Collected::Here(manifest) => {
                let there = |path: &String| !manifest.missing.contains(path);
                request.paths.into_iter().filter(there).collect()
            }
        })
    }
}

const AGENT_LOGS: &str = "/logs/agent";
const VERIFIER_LOGS: &str = "/logs/verifier";
const TESTS: &str = "/tests";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);
const FEW: u64 = 16;
