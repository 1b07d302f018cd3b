//! Agents that misbehave on a machine that they do not own. Whatever they do, what they left is verified.

use assay_core::{cause::Cause, control::runner::Stream, phase::Phase};
use assay_tests::installation::{
    Ended, Files, Installation,
    files::{shell_agent, task},
};

use crate::home::expect;

pub async fn forks_a_bomb(home: &Installation) {
    let ended = run(home, "", "bomb() { bomb | bomb & }; bomb; sleep 1000").await;
    let words = ["the agent made too many processes"];
    expect(&ended, Cause::AgentFailed, Some(1.0), &words);
}

pub async fn allocates_all_memory(home: &Installation) {
    let ended = run(home, "[environment]\nmemory_mb = 256\n", "tail /dev/zero").await;
    let words = ["the agent ran out of memory"];
    expect(&ended, Cause::AgentOutOfMemory, Some(1.0), &words);
}

/// Slowly, so that nobody else on this machine suffers.
pub async fn fills_the_disk(home: &Installation) {
    let fill = "while :; do head -c 16777216 /dev/zero >> /big; sleep 0.1; done";
    let ended = run(home, "[environment]\nstorage_mb = 256\n", fill).await;
    let words = ["the agent wrote more than its disk may hold", "of 256 MiB"];
    expect(&ended, Cause::AgentOutOfDisk, Some(1.0), &words);
}

/// The head and the tail are kept, what is between them is counted.
pub async fn prints_a_gigabyte(home: &Installation) {
    let print = "echo the beginning; head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo the end";
    let ended = run(home, "", print).await;
    expect(&ended, Cause::Completed, Some(1.0), &[]);
    let kept = home.output(&ended, Phase::Agent, Stream::Stdout).await.unwrap();
    assert!(kept.starts_with(b"the beginning\nxxx"));
    let end = String::from_utf8_lossy(&kept[kept.len() - 20..]);
    assert!(
        end.ends_with("xxx\nthe end\n"),
        "{} bytes end with {end:?}",
        kept.len()
    );
    assert!(kept.len() <= 17 << 20, "{} bytes are kept", kept.len());
}

pub async fn prints_nul_and_invalid_utf8(home: &Installation) {
    let ended = run(home, "", r"printf '\000\377\376\303ok\n'").await;
    expect(&ended, Cause::Completed, Some(1.0), &[]);
    let kept = home.output(&ended, Phase::Agent, Stream::Stdout).await.unwrap();
    assert_eq!(kept, b"\x00\xff\xfe\xc3ok\n");
}

/// Not bad at all: tasks serve on 80 and 443, whatever the engine's own idea of low ports.
pub async fn listens_on_a_low_port(home: &Installation) {
    let listen = r#"perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(443, INADDR_ANY)) or die $!'"#;
    let ended = run(home, "", listen).await;
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

/// Nobody waits for the pipe's end.
pub async fn leaves_a_grandchild_holding_the_pipe(home: &Installation) {
    let ended = run(home, "", "(sleep 1000 &) ; exit 0").await;
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

pub async fn ignores_sigterm(home: &Installation) {
    let ended = late(home, "trap '' TERM; while :; do sleep 1; done").await;
    let words = ["the agent ran past its deadline"];
    expect(&ended, Cause::AgentTimeout, Some(1.0), &words);
}

pub async fn runs_past_its_deadline(home: &Installation) {
    let ended = late(home, "sleep 1000").await;
    let words = ["the agent ran past its deadline"];
    expect(&ended, Cause::AgentTimeout, Some(1.0), &words);
}

pub async fn plants_a_reward(home: &Installation) {
    let plant = "rm answer.txt; for end in txt json; do echo 1 > /logs/verifier/reward.$end; done; \
                 chmod 0 /logs/verifier/reward.txt";
    let ended = run(home, "", plant).await;
    expect(&ended, Cause::Completed, Some(0.0), &[]);
}

/// It reaches neither the runner nor the proxy, and what it did before counts.
pub async fn kills_every_process_it_can(home: &Installation) {
    let kill = "kill -9 -1; for pid in /proc/[0-9]*; do pid=${pid#/proc/}; [ $pid = $$ ] || kill -9 $pid; done; true";
    let ended = run(home, "", kill).await;
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

/// The verifier would be started by it: a run must not become nobody's fault that way.
pub async fn replaces_the_shell(home: &Installation) {
    let ended = run(home, "", "cp --remove-destination /bin/true /bin/sh").await;
    let words = ["/bin/sh is not the image's any more"];
    expect(&ended, Cause::AgentBrokeSandbox, Some(0.0), &words);
}

/// Solves the task first, then does this. The deadline guards against hanging alone.
async fn run(home: &Installation, environment: &str, then: &str) -> Ended {
    let files = task().with(
        "task.toml",
        format!("schema_version = \"1.4\"\n[agent]\ntimeout_sec = 600\n{environment}"),
    );
    home.run(&files, Some(&solves_and(then))).await.unwrap()
}

/// The same with a deadline that a busy machine can keep for the first step, and not for the second.
async fn late(home: &Installation, then: &str) -> Ended {
    let files = task().with(
        "task.toml",
        "schema_version = \"1.4\"\n[agent]\ntimeout_sec = 15\n",
    );
    home.run(&files, Some(&solves_and(then))).await.unwrap()
}

fn solves_and(then: &str) -> Files {
    shell_agent(&format!("echo 42 > answer.txt\n{then}\n"))
}
