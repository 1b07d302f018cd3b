//! How a process ends. One test, because signals go to the whole process.

use std::time::Duration;

use assay_runtime::lifecycle::serve;
use nix::sys::signal::{Signal, raise};

const NEVER: Duration = Duration::from_secs(100_000);

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_waited_for_until_its_end_a_second_signal_or_the_grace() {
    let fails = |_| async { Err::<(), _>("no port is free") };
    let ended = serve("fails", NEVER, fails).await.unwrap();
    assert_eq!(ended, Some(Err("no port is free")), "what it says is told");

    let panics = |_| async { panic!("of this test") };
    serve("panics", NEVER, panics).await.unwrap_err();

    let drains = |stop: tokio_util::sync::CancellationToken| async move {
        raise(Signal::SIGTERM).unwrap();
        stop.cancelled().await;
        "drained"
    };
    let ended = serve("drains", NEVER, drains).await.unwrap();
    assert_eq!(ended, Some("drained"), "one signal asks");

    let is_asked_twice = |stop: tokio_util::sync::CancellationToken| async move {
        raise(Signal::SIGTERM).unwrap();
        stop.cancelled().await;
        raise(Signal::SIGINT).unwrap();
        std::future::pending::<()>().await;
    };
    let ended = serve("is asked twice", NEVER, is_asked_twice).await.unwrap();
    assert_eq!(ended, None, "a second one insists");

    let outstays = |_| async {
        raise(Signal::SIGTERM).unwrap();
        std::future::pending::<()>().await;
    };
    let ended = serve("outstays", Duration::from_millis(1), outstays)
        .await
        .unwrap();
    assert_eq!(ended, None, "the grace is over");
}
