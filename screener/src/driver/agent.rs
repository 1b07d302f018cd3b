//! Phase `agent`: whatever the contract is, one execution as the task's user in the task's working directory.

use assay_core::{
    agent::Contract,
    control::runner::{End, Outcome, Usage},
    phase::EgressPhase,
};
use assay_engine::Engine;

use super::{Driver, Halt, execute::Job, live::Live, pack::Item};
use crate::evidence::{self, Evidence};

impl<E: Engine> Driver<E> {
    pub(super) async fn agent(&mut self) -> Result<Vec<Evidence>, Halt> {
        let live = self.main().await?;
        self.account = self.row.memo.last.clone();
        let end = match self.resume(&live, LABEL).await? {
            Some(end) => end,
            None => self.run_agent(&live).await?,
        };
        let account = self.agent_account(&live).await?;
        Ok(vec![Evidence::Ended(evidence::Job::Agent, end), account])
    }

    async fn run_agent(&mut self, live: &Live) -> Result<End, Halt> {
        let outline = self.row.memo.outline.as_ref();
        let set_up =
            outline.is_some_and(|outline| outline.health || outline.steps.iter().any(|step| step.setup));
        if set_up || self.row.step > 0 {
            self.switch(live, EgressPhase::Agent).await?;
        }
        self.remember_shell(live).await?;
        if !self.row.step_outline().is_some_and(|step| step.setup) {
            // Else the step's setup did it, and may have left something for the agent.
            self.clean_for_step(live).await?;
        }
        match self.assignment.contract {
            Contract::Nop => Ok(nothing_done()),
            Contract::Oracle => self.run_solution(live).await,
            Contract::Patch | Contract::Command => self.run_bundle(live).await,
        }
    }

    async fn run_solution(&mut self, live: &Live) -> Result<End, Halt> {
        let step = self.step_plan()?;
        let Some(solution) = &step.files.solution else {
            return Err(
                Evidence::Unusable(evidence::Part::Task, "the task has no solution".to_owned()).into(),
            );
        };
        let tree = Item::Tree {
            from: self.task_folder().join(solution),
            to: String::new(),
        };
        self.put(live, "/solution", vec![tree]).await?;
        let mut env = step.agent.solution_env.clone();
        env.entry("DEBIAN_FRONTEND".to_owned())
            .or_insert_with(|| "noninteractive".to_owned());
        let job = Job {
            env,
            ..Job::of_task(
                LABEL,
                "(/solution/solve.sh)",
                self.agent_user(live),
                self.agent_limit(),
            )
        };
        self.execute(live, job).await
    }

    fn agent_limit(&self) -> std::time::Duration {
        self.row
            .step_outline()
            .map_or(std::time::Duration::ZERO, |step| step.agent_limit)
    }

    async fn run_bundle(&mut self, live: &Live) -> Result<End, Halt> {
        let installed = self
            .manifest
            .as_ref()
            .is_some_and(|manifest| !manifest.install.is_empty());
        if self.row.step == 0 && !installed {
            self.upload_bundle(live).await?;
        }
        self.upload_instruction(live).await?;
        let limit = self.agent_limit();
        let argv = match (&self.manifest, self.assignment.contract) {
            (Some(manifest), Contract::Command) => manifest.run.clone(),
            (_, Contract::Patch | Contract::Command | Contract::Oracle | Contract::Nop) => Self::patch_argv(),
        };
        let job = Job {
            argv,
            env: self.agent_env(limit.as_secs()),
            user: self.agent_user(live),
            ..Job::shell(LABEL, "", limit)
        };
        self.execute(live, job).await
    }
}

fn nothing_done() -> End {
    End {
        outcome: Outcome::Exited,
        exit_code: Some(0),
        signal: None,
        detail: None,
        wall_ms: 0,
        usage: Usage::default(),
        stdout_bytes: 0,
        stderr_bytes: 0,
    }
}

const LABEL: &str = "agent";
