//! One execution from start to end: limits, kills, the one end event.

use std::{sync::Arc, time::Duration};

use assay_core::control::runner::{End, Execute, Outcome, Stream, Usage};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use super::{
    Execution,
    spawn::{Child, spawn},
};
use crate::{cgroup::Counters, kill::Exit, stage::Order, state::Runner};

/// How often tasks and memory are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Memory in use, in percent of the limit, at which we kill before the kernel does.
const MEMORY_PERCENT: u64 = 95;
/// How long the last bytes may take when somebody who was left behind still holds the pipe.
const DRAIN: Duration = Duration::from_millis(100);
/// How long a pipe may take to end when everybody is dead.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Starts an execution and watches it in a task of its own.
pub(crate) async fn start(runner: &Arc<Runner>, execution: &Arc<Execution>, request: Execute) {
    let mut env = runner.trust_variables();
    env.extend(request.env.clone());
    let order = Order {
        argv: request.argv.clone(),
        cwd: request.cwd.clone().unwrap_or_else(|| "/".to_owned()),
        env,
        user: request.user.clone(),
    };
    // Nobody is started while everybody is being killed.
    let killing = runner.killing.lock().await;
    let before = runner.cgroup.counters();
    let child = spawn(&runner.confinement, &order, request.stdin);
    match child {
        Ok(child) => {
            let exit = runner.reaper.watch(child.pid);
            drop(killing);
            execution.running(Some(child.pid));
            let watched = Watched {
                runner: Arc::clone(runner),
                execution: Arc::clone(execution),
                request,
                before,
                began: Instant::now(),
            };
            tokio::spawn(watched.run(child, exit));
        }
        Err(error) => {
            let end = end(Outcome::SpawnFailed, None, Instant::now(), Usage::default());
            execution.finish(End {
                detail: Some(format!("cannot start a process: {error}")),
                ..end
            });
        }
    }
}

struct Watched {
    runner: Arc<Runner>,
    execution: Arc<Execution>,
    request: Execute,
    before: Counters,
    began: Instant,
}

impl Watched {
    async fn run(self, child: Child, mut exit: oneshot::Receiver<Exit>) {
        let pid = child.pid;
        *self.execution.stdin.lock().await = child.stdin;
        let status = tokio::spawn(await_start(Arc::clone(&self.execution), pid, child.status));
        let stdout = tokio::spawn(pump(Arc::clone(&self.execution), Stream::Stdout, child.stdout));
        let stderr = tokio::spawn(pump(Arc::clone(&self.execution), Stream::Stderr, child.stderr));

        let (mut reason, mut ended) = self.wait(&mut exit).await;
        if reason == Some(Outcome::Timeout) {
            ended = self.ask_to_end(pid, &mut exit).await;
        }
        let mut everybody_dead = true;
        if reason.is_some() || !self.request.keep_survivors {
            everybody_dead = self
                .runner
                .kill_everything(Outcome::Killed, Some(self.execution.id))
                .await;
        }
        if ended.is_none() {
            ended = timeout(LAST_BYTES, &mut exit).await.ok().and_then(Result::ok);
        }
        self.execution.running(None);
        drop(self.execution.stdin.lock().await.take());
        let refusal = timeout(LAST_BYTES, status)
            .await
            .ok()
            .and_then(Result::ok)
            .flatten();
        let patience = if reason.is_none() && self.request.keep_survivors {
            DRAIN
        } else {
            LAST_BYTES
        };
        await_end_of_pipes(stdout, stderr, patience).await;
        reason = reason.or_else(|| refusal.is_some().then_some(Outcome::SpawnFailed));
        let detail =
            refusal.or_else(|| (!everybody_dead).then(|| "some processes could not be killed".to_owned()));
        self.finish(reason, ended, detail);
    }

    /// Until the command ends or a limit is reached.
    async fn wait(&self, exit: &mut oneshot::Receiver<Exit>) -> (Option<Outcome>, Option<Exit>) {
        let deadline = sleep(Duration::from_millis(self.request.limits.wall_ms));
        tokio::pin!(deadline);
        let mut stop = self.execution.stop.subscribe();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                ended = &mut *exit => return (None, ended.ok()),
                Ok(reason) = stop.wait_for(Option::is_some) => return (*reason, None),
                () = &mut deadline => return (Some(Outcome::Timeout), None),
                _ = look.tick() => {
                    if self.too_many_tasks() {
                        return (Some(Outcome::PidLimit), None);
                    }
                    if self.runner.cgroup.memory_percent().is_some_and(|percent| percent >= MEMORY_PERCENT) {
                        return (Some(Outcome::Oom), None);
                    }
                }
            }
        }
    }

    fn too_many_tasks(&self) -> bool {
        let cgroup = &self.runner.cgroup;
        cgroup.tasks() >= self.runner.config.max_pids || cgroup.refused_forks() > self.before.refused_forks
    }

    async fn ask_to_end(&self, pid: i32, exit: &mut oneshot::Receiver<Exit>) -> Option<Exit> {
        let grace = Duration::from_millis(self.request.limits.grace_ms);
        // It may have ended just now.
        crate::kill::signal_group(pid, libc::SIGTERM).ok();
        timeout(grace, exit).await.ok().and_then(Result::ok)
    }

    fn finish(&self, reason: Option<Outcome>, exit: Option<Exit>, detail: Option<String>) {
        let after = self.runner.cgroup.counters();
        let usage = Usage {
            cpu_ms: after.cpu_us.saturating_sub(self.before.cpu_us) / 1000,
            memory_peak_bytes: after.memory_peak,
            oom_kills: after.oom_kills.saturating_sub(self.before.oom_kills),
        };
        let asked = self
            .execution
            .asked_signal
            .load(std::sync::atomic::Ordering::Relaxed);
        // Killed along with another execution: that reason may arrive after the kill itself.
        let stopped = || {
            let stop = *self.execution.stop.borrow();
            stop.filter(|_| exit == Some(Exit::Signal(libc::SIGKILL)))
        };
        let outcome = reason
            .or_else(stopped)
            .unwrap_or_else(|| judge(exit, usage.oom_kills, asked));
        self.execution.finish(End {
            detail,
            ..end(outcome, exit, self.began, usage)
        });
    }
}

/// What the end of a command means that nobody stopped.
fn judge(exit: Option<Exit>, oom_kills: u64, asked_signal: i32) -> Outcome {
    match exit {
        // A shell tells the kill of its child by this code.
        Some(Exit::Signal(libc::SIGKILL) | Exit::Code(137)) if oom_kills > 0 => Outcome::Oom,
        Some(Exit::Signal(signal)) if signal == asked_signal => Outcome::Killed,
        Some(Exit::Signal(_)) => Outcome::Signalled,
        Some(Exit::Code(_)) => Outcome::Exited,
        None => Outcome::Killed,
    }
}

fn end(outcome: Outcome, exit: Option<Exit>, began: Instant, usage: Usage) -> End {
    let exit = exit.filter(|_| outcome != Outcome::SpawnFailed);
    End {
        outcome,
        exit_code: exit.and_then(|exit| match exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }),
        signal: exit.and_then(|exit| match exit {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(signal),
        }),
        detail: None,
        wall_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        usage,
        stdout_bytes: 0,
        stderr_bytes: 0,
    }
}

/// Reads the child's word about its start. `Some` is why there was none.
async fn await_start(execution: Arc<Execution>, pid: i32, status: pipe::Receiver) -> Option<String> {
    let mut text = Vec::new();
    // What was read before an error counts.
    drop(status.take(4096).read_to_end(&mut text).await);
    if text.is_empty() {
        execution.started(pid);
        return None;
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Reads a stream to its end, however long that takes and whoever holds it.
async fn pump(execution: Arc<Execution>, stream: Stream, mut from: pipe::Receiver) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        execution.push(stream, &buffer[..count]);
    }
}

async fn await_end_of_pipes(mut stdout: JoinHandle<()>, mut stderr: JoinHandle<()>, patience: Duration) {
    let both = async {
        // Neither task panics or is cancelled.
        drop((&mut stdout).await);
        drop((&mut stderr).await);
    };
    // Where it takes longer somebody was left behind on purpose; the tasks go on reading.
    drop(timeout(patience, both).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_command_is_judged() {
        assert_eq!(judge(Some(Exit::Code(3)), 0, 0), Outcome::Exited);
        assert_eq!(judge(Some(Exit::Code(1)), 1, 0), Outcome::Exited);
        assert_eq!(judge(Some(Exit::Code(137)), 1, 0), Outcome::Oom);
        assert_eq!(judge(Some(Exit::Signal(9)), 1, 0), Outcome::Oom);
        assert_eq!(judge(Some(Exit::Signal(9)), 0, 9), Outcome::Killed);
        assert_eq!(judge(Some(Exit::Signal(11)), 0, 9), Outcome::Signalled);
    }
}
