//! Objects of one kind, kept up to date by one list and one watch for the life of the process.

use std::{
    fmt::Debug,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{Stream, StreamExt as _};
use kube::{
    Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher::{self, Event},
    },
};
use tokio::task::AbortHandle;

use super::fault::code;

/// What there is.
pub(super) struct Kept<K>
where
    K: Resource + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    there: Store<K>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    task: AbortHandle,
}

/// Why it may not be what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The HTTP status, where the API server answered.
    pub code: Option<u16>,
    pub message: String,
}

impl<K> Kept<K>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default + Send + Sync + Unpin,
{
    /// Follows what a watcher tells.
    pub(super) fn by(events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static) -> Self {
        let (there, writer) = reflector::store();
        let trouble: Arc<Mutex<Option<Trouble>>> = Arc::default();
        let told = Arc::clone(&trouble);
        let task = tokio::spawn(async move {
            let mut events = pin!(events.default_backoff().reflect(writer));
            while let Some(event) = events.next().await {
                *told.lock().unwrap_or_else(PoisonError::into_inner) =
                    event.err().map(|error| Trouble::of(&error));
            }
        });
        Self {
            there,
            trouble,
            task: task.abort_handle(),
        }
    }

    /// All of them. Waits for the first list, not for one that fails.
    pub(super) async fn all(&self) -> Result<Vec<Arc<K>>, Trouble> {
        loop {
            let trouble = self
                .trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            let ready = tokio::time::timeout(LOOK, self.there.wait_until_ready()).await;
            if let Ok(ready) = ready {
                ready.map_err(|error| Trouble {
                    code: None,
                    message: error.to_string(),
                })?;
                return Ok(self.there.state());
            }
        }
    }
}

impl<K> Drop for Kept<K>
where
    K: Resource + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Trouble {
    fn of(error: &watcher::Error) -> Self {
        let answer = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => code(error),
            watcher::Error::WatchError(status) => Some(status.code),
            watcher::Error::NoResourceVersion => None,
        };
        Self {
            code: answer,
            message: error.to_string(),
        }
    }
}

/// Between two looks whether the first list has failed.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use k8s_openapi::{api::core::v1::ResourceQuota, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use kube::core::Status;
    use tokio::sync::mpsc;

    use super::*;

    type Told = watcher::Result<Event<ResourceQuota>>;

    fn kept() -> (mpsc::Sender<Told>, Kept<ResourceQuota>) {
        // One at a time: the second `send` ends when the first event was taken.
        let (sender, receiver) = mpsc::channel(1);
        let events = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Told>| async {
            receiver.recv().await.map(|event| (event, receiver))
        });
        (sender, Kept::by(events))
    }

    fn quota(name: &str) -> ResourceQuota {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        ResourceQuota {
            metadata,
            ..ResourceQuota::default()
        }
    }

    fn refused(code: u16) -> Told {
        let status = Status::failure("words", "Reason").with_code(code);
        Err(watcher::Error::WatchError(Box::new(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_list_is_waited_for_and_what_changes_is_there() {
        let (tell, kept) = kept();
        let looking = kept.all();
        let telling = async {
            tell.send(Ok(Event::Init)).await.unwrap();
            tell.send(Ok(Event::InitApply(quota("a")))).await.unwrap();
            tell.send(Ok(Event::InitDone)).await.unwrap();
        };
        let (found, ()) = tokio::join!(looking, telling);
        assert_eq!(found.unwrap().len(), 1);
        tell.send(Ok(Event::Apply(quota("b")))).await.unwrap();
        tell.send(Ok(Event::Delete(quota("a")))).await.unwrap();
        tell.send(Ok(Event::Apply(quota("b")))).await.unwrap();
        tell.reserve().await.unwrap();
        let names: Vec<_> = kept
            .all()
            .await
            .unwrap()
            .iter()
            .map(|quota| quota.metadata.name.clone())
            .collect();
        assert_eq!(names, [Some("b".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_refused_is_told_until_it_comes() {
        let (tell, kept) = kept();
        tell.send(refused(403)).await.unwrap();
        assert_eq!(kept.all().await.unwrap_err().code, Some(403));
        let events = [Ok(Event::Init), Ok(Event::InitDone), Ok(Event::Apply(quota("a")))];
        for event in events {
            tell.send(event).await.unwrap();
        }
        tell.reserve().await.unwrap();
        assert!(kept.all().await.is_ok());
    }
}
