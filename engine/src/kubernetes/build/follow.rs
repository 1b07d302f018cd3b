//! Follows a few objects by watch: all that carry a label, or the one of a name. A watch that ends is begun again from
//! what is there then.

use std::{collections::VecDeque, fmt::Debug, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;

use super::super::fault::fault;
use crate::Error;

/// Between two tries where the API server breaks watches off at once.
const AGAIN: Duration = Duration::from_millis(200);

type Events<K> = BoxStream<'static, Result<WatchEvent<K>, kube::Error>>;

/// What has changed.
#[derive(Debug)]
pub(super) enum Change<K> {
    /// An object as it is now.
    Now(Box<K>),
    /// There is none (any more).
    None,
}

/// The changes of some objects, their present states first.
pub(super) struct Follow<K> {
    api: Api<K>,
    field: Option<String>,
    label: Option<String>,
    events: Option<Events<K>>,
    seen: VecDeque<Change<K>>,
}

impl<K> Follow<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    pub(super) fn named(api: Api<K>, name: &str) -> Self {
        Self::new(api, Some(format!("metadata.name={name}")), None)
    }

    pub(super) fn labelled(api: Api<K>, label: String) -> Self {
        Self::new(api, None, Some(label))
    }

    fn new(api: Api<K>, field: Option<String>, label: Option<String>) -> Self {
        Self {
            api,
            field,
            label,
            events: None,
            seen: VecDeque::new(),
        }
    }

    /// The next change. Cancel-safe: what is not taken is seen again.
    pub(super) async fn next(&mut self) -> Result<Change<K>, Error> {
        loop {
            if let Some(change) = self.seen.pop_front() {
                return Ok(change);
            }
            let Some(events) = &mut self.events else {
                self.begin().await?;
                continue;
            };
            match events.next().await {
                Some(Ok(WatchEvent::Added(one) | WatchEvent::Modified(one))) => {
                    return Ok(Change::Now(Box::new(one)));
                }
                Some(Ok(WatchEvent::Deleted(_))) => return Ok(Change::None),
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                // Too old, broken or over.
                Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                    self.events = None;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let list = ListParams {
            field_selector: self.field.clone(),
            label_selector: self.label.clone(),
            ..ListParams::default()
        };
        let found = self
            .api
            .list(&list)
            .await
            .map_err(|error| fault("follow the build", &error))?;
        let watch = WatchParams {
            field_selector: self.field.clone(),
            label_selector: self.label.clone(),
            ..WatchParams::default()
        };
        let version = found.metadata.resource_version.unwrap_or_default();
        match self.api.watch(&watch, &version).await {
            Ok(events) => self.events = Some(events.boxed()),
            Err(error) => {
                tracing::debug!(%error, "the watch was refused");
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.seen = found
            .items
            .into_iter()
            .map(|one| Change::Now(Box::new(one)))
            .collect();
        if self.seen.is_empty() {
            self.seen.push_back(Change::None);
        }
        Ok(())
    }
}
