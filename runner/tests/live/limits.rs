//! Time, tasks, kills.

use std::time::{Duration, Instant};

use assay_core::control::runner::{Event, Outcome};

use crate::sandbox::{Sandbox, Setup, command, finish, shell};

#[tokio::test]
async fn a_timeout_ends_even_those_who_hide() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let mut request = shell(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & while :; do sleep 1; done",
    );
    request.limits.wall_ms = 300;
    let start = Instant::now();
    let done = sandbox.run(&request).await;
    assert_eq!(done.end.outcome, Outcome::Timeout);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(left_over(&sandbox).await, "");
}

#[tokio::test]
async fn a_fork_bomb_is_killed() {
    let Some(sandbox) = Sandbox::start(Setup {
        max_pids: 200,
        ..Setup::default()
    })
    .await
    else {
        return;
    };
    let mut request = shell("bomb() { bomb | bomb & wait; }; bomb");
    request.user = Some("nobody".to_owned());
    request.limits.wall_ms = 120_000;
    let done = sandbox.run(&request).await;
    assert_eq!(done.end.outcome, Outcome::PidLimit);
    assert_eq!(left_over(&sandbox).await, "");
}

#[tokio::test]
async fn survivors_stay_only_when_they_may() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    // A shell goes on before its child has become another program.
    let script = "sleep 1234 & until grep -q sleep /proc/$!/comm; do :; done; echo started";
    let mut request = shell(script);
    request.keep_survivors = true;
    let done = sandbox.run(&request).await;
    assert_eq!(
        (done.end.outcome, done.text().as_str()),
        (Outcome::Exited, "started\n")
    );
    let mut look = shell("cat /proc/[0-9]*/comm | grep -c sleep");
    look.keep_survivors = true;
    assert_eq!(sandbox.run(&look).await.text(), "1\n");
    sandbox.client.kill().await.unwrap();
    assert_eq!(left_over(&sandbox).await, "");
    sandbox.shell(script).await;
    assert_eq!(left_over(&sandbox).await, "");
}

#[tokio::test]
async fn who_stays_behind_can_go_on_printing() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let file = sandbox.path("alive");
    let mut request = shell(&format!(
        "(while [ ! -e {0}.go ]; do echo tick; sleep 0.02; done; head -c 300000 /dev/zero; echo yes > {0}) &",
        file.display()
    ));
    request.keep_survivors = true;
    assert_eq!(sandbox.run(&request).await.end.outcome, Outcome::Exited);
    std::fs::write(sandbox.path("alive.go"), "").unwrap();
    crate::sandbox::until("the survivor was not stopped by its pipe", async || file.exists()).await;
}

#[tokio::test]
async fn a_signal_and_a_kill_are_told_apart_from_a_crash() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    // No shell: dash catches this signal, and where it does so before it has forked it sleeps on.
    let request = command(&["sleep", "100"]);
    let mut events = sandbox.client.execute(&request).await.unwrap();
    assert!(matches!(
        events.next().await.unwrap(),
        Some(Event::Started { .. })
    ));
    sandbox.client.signal(request.exec, 2).await.unwrap();
    let end = finish(events).await.end;
    assert_eq!((end.outcome, end.signal), (Outcome::Killed, Some(2)));
    let request = shell("sleep 100");
    let mut events = sandbox.client.execute(&request).await.unwrap();
    assert!(matches!(
        events.next().await.unwrap(),
        Some(Event::Started { .. })
    ));
    sandbox.client.kill().await.unwrap();
    assert_eq!(finish(events).await.end.outcome, Outcome::Killed);
}

/// Everybody but the runner and the one who looks.
async fn left_over(sandbox: &Sandbox) -> String {
    let mut look =
        shell("for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || echo $p; done");
    look.keep_survivors = true;
    sandbox.run(&look).await.text()
}
