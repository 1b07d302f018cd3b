//! A build's log, line by line as it is written, for everybody who waits for the same build.

use std::time::Duration;

use bytes::Bytes;
use futures_util::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use tokio::sync::{mpsc, oneshot};

use super::job::BUILD;

/// The rest of the log comes soon after the end.
const REST: Duration = Duration::from_secs(5);
/// A log that breaks off is asked for again so often; what was passed on is not passed on twice.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);
const PIECE: usize = 16 << 10;

/// Passes the log on, from when the builder has begun until its end or a little after `ended`.
pub(super) async fn follow(
    pods: &Api<Pod>,
    begun: oneshot::Receiver<String>,
    ended: oneshot::Receiver<()>,
    log: &mpsc::Sender<Bytes>,
) {
    let Ok(pod) = begun.await else { return };
    let late = async {
        drop(ended.await);
        tokio::time::sleep(REST).await;
    };
    tokio::select! {
        () = whole(pods, &pod, log) => {}
        () = late => {}
    }
}

async fn whole(pods: &Api<Pod>, pod: &str, log: &mpsc::Sender<Bytes>) {
    let mut passed = 0;
    for _ in 0..TRIES {
        match pass(pods, pod, log, &mut passed).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the log of a build broke off"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn pass(
    pods: &Api<Pod>,
    pod: &str,
    log: &mpsc::Sender<Bytes>,
    passed: &mut usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let wanted = LogParams {
        container: Some(BUILD.to_owned()),
        follow: true,
        ..LogParams::default()
    };
    let mut stream = Box::pin(pods.log_stream(pod, &wanted).await?);
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let known = passed.saturating_sub(at).min(count);
        at += count;
        if known < count {
            // A reader that went away does not stop the build.
            drop(log.send(Bytes::copy_from_slice(&buffer[known..count])).await);
            *passed = at;
        }
    }
}
