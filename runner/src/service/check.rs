//! A service's healthcheck. It says when the service is ready; once it has passed nobody asks again.

use std::{sync::Arc, time::Duration};

use assay_core::control::service::{ServiceCheck, ServiceConfig, ServiceState};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    time::{Instant, sleep, timeout},
};

use super::{order, start, tell::Told, word};
use crate::{
    kill::{Exit, signal_group},
    state::Runner,
};

/// What is told of what a failed try printed.
const TOLD: u64 = 1 << 10;

/// Returns only when the check has failed as often as it may; the words are for people.
pub(super) async fn watch(runner: &Runner, config: &ServiceConfig, told: &Arc<Told>) -> String {
    let Some(check) = &config.healthcheck else {
        told.set(ServiceState::Ready);
        return std::future::pending().await;
    };
    let (began, mut failures) = (Instant::now(), 0);
    loop {
        let Err(words) = once(runner, config, check).await else {
            told.set(ServiceState::Ready);
            return std::future::pending().await;
        };
        let early = began.elapsed() < Duration::from_millis(check.start_period_ms);
        failures += u32::from(!early);
        if failures >= check.retries.max(1) {
            return format!(
                "it never became healthy: its healthcheck failed {failures} times, last: {words}"
            );
        }
        let pause = if early {
            check.start_interval_ms.min(check.interval_ms)
        } else {
            check.interval_ms
        };
        sleep(Duration::from_millis(pause)).await;
    }
}

/// One try.
async fn once(runner: &Runner, config: &ServiceConfig, check: &ServiceCheck) -> Result<(), String> {
    let (child, mut exit) = start(runner, &order(runner, config, &check.argv)).await?;
    let patience = Duration::from_millis(check.timeout_ms);
    let refusal = tokio::spawn(word(child.status));
    let printed = [child.stdout, child.stderr].map(|from| tokio::spawn(listen(from)));
    let ended = timeout(patience, &mut exit).await;
    // Whatever it left behind, it is over. It may be gone already.
    signal_group(child.pid, libc::SIGKILL).ok();
    let words = match ended {
        Ok(Ok(Exit::Code(0))) => return Ok(()),
        Ok(Ok(Exit::Code(code))) => format!("code {code}"),
        Ok(Ok(Exit::Signal(signal))) => format!("signal {signal}"),
        Ok(Err(_)) => "it ended".to_owned(),
        Err(_) => format!("no answer within {} ms", check.timeout_ms),
    };
    let mut said = timeout(PIPES, refusal)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    for text in printed {
        said.push_str(
            &timeout(PIPES, text)
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or_default(),
        );
    }
    Err(match said.trim() {
        "" => words,
        said => format!("{words}: {said}"),
    })
}

/// The first of what is printed; the rest is read and forgotten.
async fn listen(mut from: pipe::Receiver) -> String {
    let mut first = Vec::new();
    drop((&mut from).take(TOLD).read_to_end(&mut first).await);
    let mut rest = [0; 4096];
    while let Ok(1..) = from.read(&mut rest).await {}
    String::from_utf8_lossy(&first).into_owned()
}

/// How long the last words of a try may take. Only somebody who left the try's group can hold a pipe for longer.
const PIPES: Duration = Duration::from_secs(1);
