//! Output: bytes as they are, resumable, bounded.

use crate::sandbox::{Sandbox, Setup, finish, shell};
use assay_core::control::runner::{Event, Outcome};
use base64::{Engine as _, engine::general_purpose::STANDARD};

#[tokio::test]
async fn output_and_exit_code_arrive() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let done = sandbox
        .shell(r"printf 'a\000\377b'; printf 'oops' >&2; exit 3")
        .await;
    assert_eq!(done.stdout, b"a\0\xffb");
    assert_eq!(done.stderr, b"oops");
    assert_eq!((done.end.outcome, done.end.exit_code), (Outcome::Exited, Some(3)));
    assert_eq!((done.end.stdout_bytes, done.end.stderr_bytes), (4, 4));
    let done = sandbox.shell("echo $HOME $PATH; pwd; kill -11 $$").await;
    assert!(
        done.text().starts_with("/root /usr/local/sbin:"),
        "{}",
        done.text()
    );
    assert_eq!(
        (done.end.outcome, done.end.signal),
        (Outcome::Signalled, Some(11))
    );
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let mut request = shell("");
    request.argv = vec!["no-such-program".to_owned()];
    let done = sandbox.run(&request).await;
    assert_eq!(done.end.outcome, Outcome::SpawnFailed);
    assert!(done.end.detail.unwrap().contains("no-such-program"));
    let mut request = shell("true");
    request.user = Some("nobody-here".to_owned());
    assert_eq!(sandbox.run(&request).await.end.outcome, Outcome::SpawnFailed);
    let mut request = shell("true");
    request.cwd = Some("/no/where".to_owned());
    assert_eq!(sandbox.run(&request).await.end.outcome, Outcome::SpawnFailed);
}

#[tokio::test]
async fn output_is_resumed_after_a_dropped_connection() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let mut request =
        shell("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; read x; echo end $x");
    request.stdin = true;
    let mut events = sandbox.client.execute(&request).await.unwrap();
    let known = loop {
        if let Event::Output { offset, data, .. } = events.next().await.unwrap().unwrap() {
            break offset + STANDARD.decode(data).unwrap().len() as u64;
        }
    };
    drop(events);
    sandbox.client.stdin(request.exec, "now\n".into()).await.unwrap();
    let rest = finish(
        sandbox
            .client
            .attach(request.exec, known, 0)
            .await
            .unwrap()
            .unwrap(),
    )
    .await;
    let whole = finish(sandbox.client.attach(request.exec, 0, 0).await.unwrap().unwrap()).await;
    let expected: String = (0..2000)
        .flat_map(|i| ["line ".to_owned(), i.to_string(), "\n".to_owned()])
        .chain(["end now\n".to_owned()])
        .collect();
    assert_eq!(whole.text(), expected);
    assert_eq!(rest.text(), expected[usize::try_from(known).unwrap()..]);
    // The same request again attaches; it does not run twice.
    assert_eq!(sandbox.run(&request).await.text(), expected);
    let unknown = shell("").exec;
    assert!(sandbox.client.attach(unknown, 0, 0).await.unwrap().is_none());
}

#[tokio::test]
async fn a_gigabyte_leaves_a_gap_and_no_memory() {
    let Some(sandbox) = Sandbox::start(Setup::default()).await else {
        return;
    };
    let request = shell("head -c 1000000000 /dev/zero");
    drop(sandbox.client.execute(&request).await.unwrap());
    // Nobody reads until it has ended.
    crate::sandbox::until("it has printed all", async || {
        let done = sandbox.client.attach(request.exec, 1_000_000_000, 0).await;
        let events = done.unwrap().unwrap();
        finish(events).await.end.outcome == Outcome::Exited
    })
    .await;
    let done = finish(sandbox.client.attach(request.exec, 0, 0).await.unwrap().unwrap()).await;
    assert_eq!(done.end.stdout_bytes, 1_000_000_000);
    assert_eq!(done.gaps + done.stdout.len() as u64, 1_000_000_000);
    assert_eq!(done.stdout.len(), 1 << 20);
    let resident = sandbox.resident_kib();
    assert!(resident < 24 * 1024, "{resident} KiB");
}
