//! Follows one pod. A watch that ends is begun again from the pod as it is then.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};

use super::{again::again, fault::fault};
use crate::Error;

/// Between two tries where the API server breaks watches off at once.
const AGAIN: Duration = Duration::from_millis(200);

type Events = BoxStream<'static, Result<WatchEvent<Pod>, kube::Error>>;

/// The states of one pod, the present one first.
pub(super) struct Watch {
    pods: Api<Pod>,
    name: String,
    /// The state that is known already, until it is told.
    known: Option<Box<Pod>>,
    events: Option<Events>,
}

impl Watch {
    pub(super) fn new(pods: Api<Pod>, name: String) -> Self {
        Self {
            pods,
            name,
            known: None,
            events: None,
        }
    }

    /// The same from a state that the API server has just told.
    pub(super) fn after(pods: Api<Pod>, name: String, known: Pod) -> Self {
        Self {
            known: Some(Box::new(known)),
            ..Self::new(pods, name)
        }
    }

    /// The pod's next state; `None` when it is gone. Cancel-safe: a state that is not taken is replaced by a newer one.
    pub(super) async fn next(&mut self) -> Result<Option<Pod>, Error> {
        loop {
            let Some(events) = &mut self.events else {
                return self.begin().await;
            };
            match events.next().await {
                Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => return Ok(Some(pod)),
                Some(Ok(WatchEvent::Deleted(_))) => return Ok(None),
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                // Too old, broken or over.
                Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                    self.events = None;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn begin(&mut self) -> Result<Option<Pod>, Error> {
        let found = match self.known.take() {
            Some(pod) => Ok(Some(*pod)),
            None => again(|| self.pods.get_opt(&self.name)).await,
        };
        let Some(pod) = found.map_err(|error| fault("watch the pod", &error))? else {
            return Ok(None);
        };
        let version = pod.metadata.resource_version.clone().unwrap_or_default();
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        match self.pods.watch(&only, &version).await {
            Ok(events) => self.events = Some(events.boxed()),
            Err(error) => tracing::debug!(%error, "the watch was refused"),
        }
        Ok(Some(pod))
    }
}
