//! One execution in a sandbox: started or attached to, followed to its end, its output shipped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use assay_core::{
    control::runner::{End, Event, ExecLimits, Execute, Outcome, Stream},
    id::ExecId,
};
use assay_engine::Engine;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{
    Driver, Halt, disk,
    live::{Events, Live},
};
use crate::{derive, evidence::Evidence, row::Base};

/// What is executed.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Names it within its phase.
    pub(super) label: String,
    /// What to run.
    pub(super) argv: Vec<String>,
    /// Beside the image's and the task's environment, over both.
    pub(super) env: BTreeMap<String, String>,
    /// Who runs it; root when absent.
    pub(super) user: Option<String>,
    /// Where; the task's working directory when absent.
    pub(super) cwd: Option<String>,
    /// The longest that it may take.
    pub(super) wall: Duration,
    /// What it leaves running may stay.
    pub(super) keep_survivors: bool,
}

impl Job {
    /// A command for a shell, as root.
    pub(super) fn shell(label: &str, command: &str, wall: Duration) -> Self {
        Self {
            label: label.to_owned(),
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()],
            env: BTreeMap::new(),
            user: None,
            cwd: None,
            wall,
            keep_survivors: true,
        }
    }

    /// A command of the task, by bash where the image has it, as the task format expects, and otherwise by the shell.
    pub(super) fn of_task(label: &str, command: &str, user: Option<String>, wall: Duration) -> Self {
        let words = ["/bin/sh", "-c", BY_BASH, "sh", command];
        Self {
            argv: words.map(str::to_owned).to_vec(),
            user,
            ..Self::shell(label, "", wall)
        }
    }
}

impl<E: Engine> Driver<E> {
    /// Attaches to an execution that a worker before this one has started. `None` where it was not.
    pub(super) async fn resume(&mut self, live: &Live, label: &str) -> Result<Option<End>, Halt> {
        if !self.adopting {
            return Ok(None);
        }
        let exec = self.exec_id(live, label);
        let base = self.row.memo.bases.get(label).copied().unwrap_or_default();
        let from = self.seen_of(base);
        match live.attach(exec, from).await? {
            Some(events) => self.watched(live, exec, base, events).await.map(Some),
            None => Ok(None),
        }
    }

    /// Runs a job to its end. Executing the same job again attaches to it.
    pub(super) async fn execute(&mut self, live: &Live, job: Job) -> Result<End, Halt> {
        let exec = self.exec_id(live, &job.label);
        let base = self.base_of(&job.label).await?;
        let mut env = live.env();
        env.extend(job.env);
        let request = Execute {
            exec,
            argv: job.argv,
            cwd: Some(job.cwd.unwrap_or_else(|| live.workdir())),
            env,
            user: job.user,
            stdin: false,
            limits: ExecLimits {
                wall_ms: u64::try_from(job.wall.as_millis()).unwrap_or(u64::MAX).max(1),
                grace_ms: GRACE_MS,
            },
            keep_survivors: job.keep_survivors,
        };
        let events = live.execute(&request).await?;
        self.watched(live, exec, base, events).await
    }

    /// Follows an execution; one that writes more than its disk may hold is killed.
    async fn watched(&mut self, live: &Live, exec: ExecId, base: Base, events: Events) -> Result<End, Halt> {
        let limit = self.plan()?.limits.storage_mb << 20;
        let site = Arc::clone(&self.site);
        let overflow = disk::overflow(&*site.engine, live, limit);
        let mut follow = Box::pin(self.follow(live, exec, base, events));
        // cancel-safe: the watch holds nothing, and following goes on.
        let (used, most) = tokio::select! {
            end = &mut follow => return end,
            overflow = overflow => overflow,
        };
        live.kill().await?;
        let end = follow.await?;
        Ok(End {
            outcome: Outcome::DiskLimit,
            detail: Some(format!("{} of {} MiB", used >> 20, most >> 20)),
            ..end
        })
    }

    fn exec_id(&self, live: &Live, label: &str) -> ExecId {
        derive::exec(live.sandbox.name.sandbox, self.row.step, self.row.phase, label)
    }

    /// Where the job's output begins in the phase's streams: after all before it, or where it began before a restart.
    async fn base_of(&mut self, label: &str) -> Result<Base, Halt> {
        if let Some(base) = self.row.memo.bases.get(label) {
            return Ok(*base);
        }
        let base = self.output.as_ref().map_or_else(Base::default, |output| Base {
            stdout: output.end(Stream::Stdout),
            stderr: output.end(Stream::Stderr),
        });
        if base != Base::default() {
            self.row.memo.bases.insert(label.to_owned(), base);
            self.journal.flush(&self.site.platform, &self.row).await?;
        }
        Ok(base)
    }

    /// How much of a job's own streams is taken already.
    fn seen_of(&self, base: Base) -> Base {
        self.output.as_ref().map_or_else(Base::default, |output| Base {
            stdout: output.end(Stream::Stdout).saturating_sub(base.stdout),
            stderr: output.end(Stream::Stderr).saturating_sub(base.stderr),
        })
    }

    async fn follow(
        &mut self,
        live: &Live,
        exec: ExecId,
        base: Base,
        mut events: Events,
    ) -> Result<End, Halt> {
        self.last_words.clear();
        loop {
            match tokio::time::timeout(QUIET, events.next()).await {
                Ok(Ok(Some(event))) => {
                    if let Some(end) = self.take(base, event) {
                        let usage = &mut self.row.memo.usage;
                        usage.cpu_ms += end.usage.cpu_ms;
                        usage.memory_peak_bytes = usage.memory_peak_bytes.max(end.usage.memory_peak_bytes);
                        usage.oom_kills += end.usage.oom_kills;
                        return Ok(end);
                    }
                }
                // A program may be silent for hours; its runner may not.
                Err(_) if live.answers().await => {}
                Ok(Ok(None) | Err(_)) | Err(_) => events = self.reattach(live, exec, base).await?,
            }
        }
    }

    async fn reattach(&self, live: &Live, exec: ExecId, base: Base) -> Result<Events, Halt> {
        let start = tokio::time::Instant::now();
        loop {
            match live.attach(exec, self.seen_of(base)).await {
                Ok(Some(events)) => return Ok(events),
                Ok(None) => {
                    return Err(Evidence::Silent("the runner has forgotten the execution".to_owned()).into());
                }
                Err(halt) if start.elapsed() > PATIENCE => return Err(halt),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn take(&mut self, base: Base, event: Event) -> Option<End> {
        let output = self.output.as_ref();
        let begin = |stream| match stream {
            Stream::Stdout => base.stdout,
            Stream::Stderr => base.stderr,
        };
        match event {
            Event::Started { .. } => None,
            Event::Output { stream, offset, data } => {
                // What is no base64 is no output; the gap shows when the next bytes come.
                if let (Some(output), Ok(bytes)) = (output, STANDARD.decode(data)) {
                    if stream == Stream::Stderr {
                        keep_end(&mut self.last_words, &bytes);
                    }
                    output.push(stream, begin(stream) + offset, Bytes::from(bytes));
                }
                None
            }
            Event::Gap { stream, to, .. } => {
                if let Some(output) = output {
                    output.skip_to(stream, begin(stream) + to);
                }
                None
            }
            Event::End(end) => Some(end),
        }
    }
}

/// Appends, and forgets all but the end.
fn keep_end(words: &mut Vec<u8>, more: &[u8]) {
    words.extend_from_slice(more);
    words.drain(..words.len().saturating_sub(WORDS));
}

const BY_BASH: &str =
    r#"if command -v bash >/dev/null 2>&1; then exec bash -c "$1"; fi; exec /bin/sh -c "$1""#;
const GRACE_MS: u64 = 5_000;
/// Bytes of an execution's last words.
const WORDS: usize = 400;
/// Silence after which the runner is asked whether it lives.
const QUIET: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);
