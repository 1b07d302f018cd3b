//! Phase `setup`: the agent's install command, a step's files and `setup.sh`, a step's healthcheck.

use assay_core::{control::runner::Outcome, phase::EgressPhase};
use assay_engine::Engine;

use super::{Driver, Halt, execute::Job, live::Live, pack::Item};
use crate::{
    evidence::{self, Evidence},
    row::seconds,
};

impl<E: Engine> Driver<E> {
    pub(super) async fn setup(&mut self) -> Result<Vec<Evidence>, Halt> {
        let live = self.main().await?;
        if self.row.step > 0 {
            self.switch(&live, EgressPhase::Setup).await?;
        }
        let mut seen = Vec::new();
        if self.row.step == 0 {
            seen.extend(self.install(&live).await?);
        }
        if seen.iter().all(passed) {
            seen.extend(self.step_files(&live).await?);
        }
        if seen.iter().all(passed)
            && let Some(check) = self.step_plan()?.healthcheck
        {
            self.check_health(&live, &check, self.agent_user(&live)).await?;
        }
        if seen.iter().any(has_proxy) {
            seen.push(self.setup_account(&live).await?);
        }
        seen.push(Evidence::SetUp);
        Ok(seen)
    }

    /// Runs the install command as root in `/installed-agent`.
    async fn install(&mut self, live: &Live) -> Result<Option<Evidence>, Halt> {
        let Some(manifest) = self
            .manifest
            .clone()
            .filter(|manifest| !manifest.install.is_empty())
        else {
            return Ok(None);
        };
        let ended = |end| Some(Evidence::Ended(evidence::Job::Install, end));
        if let Some(end) = self.resume(live, "install").await? {
            return Ok(ended(end));
        }
        self.remember_shell(live).await?;
        self.upload_bundle(live).await?;
        let job = Job {
            label: "install".to_owned(),
            argv: manifest.install,
            env: manifest.env,
            user: None,
            cwd: Some(super::bundle::HOME.to_owned()),
            wall: self.install_limit(),
            keep_survivors: true,
        };
        self.execute(live, job).await.map(ended)
    }

    /// The longest that the install command may take.
    pub(super) fn install_limit(&self) -> std::time::Duration {
        let longest = seconds(
            self.row
                .memo
                .outline
                .as_ref()
                .map_or(self.row.defaults.setup_sec, |outline| outline.limits.setup_sec),
        );
        let asked = self
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.install_timeout_sec)
            .map(seconds)
            .filter(|asked| !asked.is_zero());
        asked.map_or(longest, |asked| {
            asked.min(seconds(self.site.limits.maximum.setup_sec))
        })
    }

    async fn step_files(&mut self, live: &Live) -> Result<Option<Evidence>, Halt> {
        let files = self.step_plan()?.files;
        let ended = |end| Some(Evidence::Ended(evidence::Job::StepSetup, end));
        if let Some(end) = self.resume(live, "setup").await? {
            return Ok(ended(end));
        }
        self.clean_for_step(live).await?;
        let Some(workdir) = files.workdir else {
            return Ok(None);
        };
        let tree = Item::Tree {
            from: self.task_folder().join(workdir),
            to: String::new(),
        };
        self.put(live, &live.workdir(), vec![tree]).await?;
        if !files.has_setup {
            return Ok(None);
        }
        let job = Job {
            argv: vec!["bash".to_owned(), "setup.sh".to_owned()],
            user: self.agent_user(live),
            ..Job::shell("setup", "", seconds(self.plan()?.limits.setup_sec))
        };
        self.execute(live, job).await.map(ended)
    }
}

/// Something was executed, and the proxy was there to its end.
fn has_proxy(evidence: &Evidence) -> bool {
    matches!(evidence, Evidence::Ended(_, end) if end.outcome != Outcome::ProxyLost)
}

fn passed(evidence: &Evidence) -> bool {
    if let Evidence::Ended(_, end) = evidence {
        end.exit_code == Some(0)
    } else {
        true
    }
}
