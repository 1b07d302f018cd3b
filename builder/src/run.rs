//! `run`: watches over a builder. It has no credential, so nothing that a Dockerfile does can find one.
//!
//! It is PID 1 of its container: when the build is over or its time is, nobody else is left alive.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use assay_core::{
    control::build::{RunPlan, Tool, Verdict},
    egress::PROXY_UID,
};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, getpid},
};

use crate::{
    buildah, cgroup,
    failure::{Failure, Fault},
    kaniko, platform, proxy,
    steps::Word,
    tail::Tail,
};

/// The log may be read to its end once nobody writes any more.
const REST: Duration = Duration::from_secs(5);
/// Longest wait for a proxy that is starting.
const PROXY: Duration = Duration::from_secs(30);

/// Lets the builder work and judges how it ended.
pub(crate) fn watch(plan: &str) -> Verdict {
    work(plan).unwrap_or_else(|error| platform(&format!("run the builder: {error}")))
}

fn work(text: &str) -> io::Result<Verdict> {
    let plan: RunPlan = serde_json::from_str(text)?;
    if plan.network && !proxy::is_there_within(PROXY) {
        return Ok(platform(&"the build's proxy does not answer"));
    }
    let end = Instant::now() + Duration::from_millis(plan.limit_ms);
    let kills = cgroup::oom_kills();
    let mut steps = without_cluster(Command::new("/proc/self/exe"))
        .args(["steps", text])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = follow_log(steps.stderr.take());
    let word = converse(&mut steps, end);
    kill_everybody();
    let tail = log.recv_timeout(REST).unwrap_or_default();
    let oom = cgroup::oom_kills() > kills;
    let word = word?;
    // Without its network a build cannot but fail: that says nothing about the Dockerfile.
    if plan.network && word != Some(Word::Built) && !proxy::is_there() {
        return Ok(platform(&"the build's proxy died"));
    }
    Ok(match word {
        None => Verdict::TimedOut,
        Some(word) => judge(plan.tool, &word, oom, &tail),
    })
}

/// Where the cluster's API is, which kubelet tells every container, is no business of a step.
fn without_cluster(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"KUBERNETES_") {
            command.env_remove(name);
        }
    }
    command
}

/// What the end means.
fn judge(tool: Tool, word: &Word, oom: bool, log: &Tail) -> Verdict {
    match word {
        Word::Built => Verdict::Done,
        &Word::Failed { purpose, code } => {
            let failure = Failure {
                purpose,
                code,
                oom,
                log,
            };
            let (fault, reason, last) = match tool {
                Tool::Buildah => (buildah::fault(&failure), log.text(), log.last()),
                Tool::Kaniko => {
                    let last = kaniko::last_word(log).unwrap_or(log.last());
                    (kaniko::fault(&failure), kaniko::reason(log), last)
                }
            };
            match fault {
                Fault::Task => Verdict::Task { reason },
                Fault::Memory => Verdict::OutOfMemory,
                Fault::Platform => platform(&format!("the builder failed ({purpose:?}): {last}")),
            }
        }
        Word::Unshared if oom => Verdict::OutOfMemory,
        Word::Unshared => platform(&"the builder ended without a word"),
        Word::Broken(message) => platform(&format!("the builder cannot work here: {message}")),
    }
}

/// Gives the namespaces their maps and hears the end; `None` when time is over.
fn converse(steps: &mut Child, end: Instant) -> io::Result<Option<Word>> {
    let words = listen(steps.stdout.take());
    let mut last = Word::Unshared;
    let mut stdin = steps.stdin.take();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match words.recv_timeout(left) {
            Ok(Word::Unshared) => {
                map(steps.id())?;
                go(stdin.take())?;
            }
            Ok(word) => last = word,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(Some(last)),
            Err(mpsc::RecvTimeoutError::Timeout) => return Ok(None),
        }
    }
}

/// The namespace has our own identities, one to one, so that the images' files keep their owners. The proxy's user alone
/// is missing: packet rules let it through.
fn map(process: u32) -> io::Result<()> {
    for (kind, without) in [("uid_map", Some(PROXY_UID)), ("gid_map", None)] {
        let own = fs::read_to_string(format!("/proc/self/{kind}"))?;
        let ranges = own.lines().filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse::<u32>);
            let (inside, _outside, count) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
            Some((inside, count))
        });
        let lines: Vec<String> = ranges
            .flat_map(|range| split(range, without))
            .map(|(first, count)| format!("{first} {first} {count}\n"))
            .collect();
        fs::write(format!("/proc/{process}/{kind}"), lines.concat())
            .map_err(|error| io::Error::other(format!("write {kind}: {error}")))?;
    }
    Ok(())
}

/// A range of identities, as first and count, without one of them.
fn split((first, count): (u32, u32), without: Option<u32>) -> Vec<(u32, u32)> {
    let end = first.saturating_add(count);
    match without {
        Some(hole) if (first..end).contains(&hole) => [(first, hole - first), (hole + 1, end - hole - 1)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect(),
        _ => vec![(first, count)],
    }
}

fn go(stdin: Option<ChildStdin>) -> io::Result<()> {
    stdin.map_or(Ok(()), |mut stdin| writeln!(stdin, "go"))
}

fn listen(stdout: Option<ChildStdout>) -> mpsc::Receiver<Word> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|out| BufReader::new(out).lines());
        for line in lines.map_while(Result::ok) {
            let word = serde_json::from_str(&line);
            if word.is_ok_and(|word| sender.send(word).is_err()) {
                break;
            }
        }
    });
    receiver
}

/// Passes the log on as it comes, and hands over its end.
fn follow_log(stderr: Option<ChildStderr>) -> mpsc::Receiver<Tail> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut tail, mut buffer) = (Tail::default(), vec![0; 16 << 10]);
        let mut out = io::stdout().lock();
        if let Some(mut stderr) = stderr {
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                tail.take(&buffer[..count]);
                // A log that nobody takes does not stop the build.
                out.write_all(&buffer[..count]).and_then(|()| out.flush()).ok();
            }
        }
        sender.send(tail).ok();
    });
    receiver
}

/// Everybody in the container, and waits until they are gone. Outside of a container of its own it harms nobody.
fn kill_everybody() {
    if getpid() != Pid::from_raw(1) {
        return;
    }
    kill(Pid::from_raw(-1), Signal::SIGKILL).ok();
    while waitpid(None, None) != Err(Errno::ECHILD) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Purpose;

    fn tail(text: &str) -> Tail {
        let mut tail = Tail::default();
        tail.take(text.as_bytes());
        tail
    }

    fn failed(purpose: Purpose, code: i32) -> Word {
        let code = Some(code);
        Word::Failed { purpose, code }
    }

    #[test]
    fn the_proxys_user_is_in_no_map() {
        assert_eq!(
            split((0, u32::MAX), Some(1337)),
            [(0, 1337), (1338, u32::MAX - 1338)]
        );
        assert_eq!(split((1337, 2), Some(1337)), [(1338, 1)]);
        assert_eq!(split((0, 100), Some(1337)), [(0, 100)]);
        assert_eq!(split((0, u32::MAX), None), [(0, u32::MAX)]);
    }

    #[test]
    fn whose_fault_it_was_is_told_by_command_memory_and_last_line() {
        let log = tail("STEP 2/2: RUN exit 7\nerror building at STEP: exit status 7\n");
        let judged = |word: &Word, oom| judge(Tool::Buildah, word, oom, &log);
        assert_eq!(judged(&Word::Built, true), Verdict::Done);
        let Verdict::Task { reason } = judged(&failed(Purpose::Build, 125), false) else {
            panic!("not the task's");
        };
        assert!(reason.starts_with("STEP 2/2"), "{reason}");
        assert_eq!(judged(&failed(Purpose::Build, 137), true), Verdict::OutOfMemory);
        assert!(matches!(
            judged(&failed(Purpose::Build, 137), false),
            Verdict::Task { .. }
        ));
        for purpose in [Purpose::Import, Purpose::Export] {
            assert!(matches!(
                judged(&failed(purpose, 125), false),
                Verdict::Platform { .. }
            ));
        }
        let full = judge(
            Tool::Buildah,
            &failed(Purpose::Build, 125),
            false,
            &tail("Error: write /x: no space left on device\n"),
        );
        assert!(matches!(full, Verdict::Platform { .. }));
    }
}
