//! Passes a good answer on to the workload while reading what it cost.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    delivery::Delivery,
    recorder::Draft,
    scrub::{Scrubber, Secrets},
    sse::Events,
    usage::Tally,
};

/// How an answer is read.
#[derive(Debug)]
pub struct Reading {
    form: Form,
    /// How long the service may be silent.
    silence: Duration,
    /// Bytes that came.
    pub bytes: u64,
}

#[derive(Debug)]
enum Form {
    Events(Events),
    Whole {
        tally: Tally,
        kept: BytesMut,
        /// Set once it is too large to be kept; its bill cannot be read then.
        too_large: bool,
    },
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It came to its end.
    Whole,
    /// The service broke off or fell silent.
    ByService,
    /// The workload went away from a long stream, or let it wait until the service gave up. That is its own affair: it
    /// must not make the service look broken.
    ByWorkload,
}

impl Reading {
    /// Of a stream of events; with `hide_usage` the event with nothing but the usage is left out.
    pub fn stream(tally: Tally, hide_usage: bool, silence: Duration) -> Self {
        Self {
            silence,
            form: Form::Events(Events::new(tally, hide_usage)),
            bytes: 0,
        }
    }

    /// Of a document.
    pub fn whole(tally: Tally, silence: Duration) -> Self {
        Self {
            silence,
            form: Form::Whole {
                tally,
                kept: BytesMut::new(),
                too_large: false,
            },
            bytes: 0,
        }
    }

    /// Copies the body to the workload, as long as it is there, and to ourselves.
    ///
    /// The draft of a recording gets what the reader gets, or would. `named` gets the service's name of the answer as soon as the answer tells it.
    pub async fn copy(
        &mut self,
        body: &mut (impl Body<Data = Bytes> + Unpin),
        delivery: &mut Delivery,
        (secrets, draft): (&Secrets, &mut Option<Draft>),
        mut named: impl FnMut(&str),
    ) -> Ended {
        let mut scrubber = Scrubber::new(secrets);
        let (mut give_up, mut is_named) = (None, false);
        let mut waited = Duration::ZERO;
        loop {
            if delivery.is_gone() && matches!(self.form, Form::Events(_)) {
                give_up.get_or_insert_with(|| Instant::now() + DRAIN);
            }
            let idle = Instant::now() + self.silence;
            let until = give_up.map_or(idle, |end| idle.min(end));
            let frame = match timeout_at(until, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                broken => {
                    delivery.break_off().await;
                    let is_drained = broken.is_err() && until < idle;
                    return if is_drained || waited >= LONG_WAIT {
                        Ended::ByWorkload
                    } else {
                        Ended::ByService
                    };
                }
            };
            if let Ok(data) = frame.into_data() {
                let out = scrubber.push(self.take(data));
                let begun = Instant::now();
                pass_some(delivery, draft, out).await;
                waited += begun.elapsed();
            }
            if !is_named && let Some(id) = self.id() {
                named(id);
                is_named = true;
            }
        }
        let last = scrubber.push(self.finish());
        pass_some(delivery, draft, last).await;
        pass_some(delivery, draft, scrubber.finish()).await;
        Ended::Whole
    }

    /// What the answer told.
    pub fn tally(&self) -> &Tally {
        match &self.form {
            Form::Events(events) => events.tally(),
            Form::Whole { tally, .. } => tally,
        }
    }

    fn id(&self) -> Option<&str> {
        self.tally().id.as_deref()
    }

    fn take(&mut self, data: Bytes) -> Bytes {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        match &mut self.form {
            Form::Events(events) => events.push(&data),
            Form::Whole { kept, too_large, .. } => {
                if *too_large || kept.len() + data.len() > MOST_WHOLE {
                    *too_large = true;
                    *kept = BytesMut::new();
                } else {
                    kept.extend_from_slice(&data);
                }
                data
            }
        }
    }

    fn finish(&mut self) -> Bytes {
        match &mut self.form {
            Form::Events(events) => events.finish(),
            Form::Whole { tally, kept, .. } => {
                tally.whole(kept);
                Bytes::new()
            }
        }
    }
}

/// Gives a piece to the workload and to the recording.
async fn pass_some(delivery: &mut Delivery, draft: &mut Option<Draft>, piece: Bytes) {
    if let Some(draft) = draft
        && !piece.is_empty()
    {
        draft.takes(&piece);
    }
    delivery.pass(piece).await;
}

/// How long a stream without a reader is read for its bill.
const DRAIN: Duration = Duration::from_mins(2);
/// A service that waits as long as this in all for somebody to read its answer may give up.
const LONG_WAIT: Duration = Duration::from_secs(30);
const MOST_WHOLE: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use assay_core::control::proxy::Purse;
    use futures_util::{Stream, StreamExt as _, stream};
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::{sync::oneshot, time::sleep};

    use super::*;
    use crate::model::{answer::Answer, spec::Api};

    const SILENCE: Duration = Duration::from_mins(10);

    type Piece = Result<Frame<Bytes>, std::io::Error>;

    /// A word each second.
    fn words() -> impl Stream<Item = Piece> {
        stream::repeat(()).then(|()| async {
            sleep(Duration::from_secs(1)).await;
            Ok(Frame::data(Bytes::from_static(b"data: {}\n\n")))
        })
    }

    async fn ended(words: impl Stream<Item = Piece>, head: oneshot::Sender<Answer>) -> Ended {
        let mut delivery = Delivery::in_pieces(HeaderMap::new(), head);
        let mut reading = Reading::stream(Tally::new(Api::Chat), false, SILENCE);
        let mut body = StreamBody::new(Box::pin(words));
        let secrets = Secrets::default();
        reading
            .copy(&mut body, &mut delivery, (&secrets, &mut None), |_| {})
            .await
    }

    fn broken() -> impl Stream<Item = Piece> {
        stream::iter([Err(std::io::ErrorKind::ConnectionReset.into())])
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_is_not_the_services_fault() {
        let (head, gone) = oneshot::channel();
        drop(gone);
        let begun = Instant::now();
        assert_eq!(ended(words(), head).await, Ended::ByWorkload);
        assert_eq!(begun.elapsed().as_secs(), DRAIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_until_the_service_gives_up_is_not_the_services_fault() {
        let (head, kept) = oneshot::channel();
        assert_eq!(
            ended(words().take(100).chain(broken()), head).await,
            Ended::ByWorkload
        );
        drop(kept);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_may_think_for_nine_minutes_where_the_policy_says_nothing() {
        let purse: Purse = serde_json::from_str(
            r#"{"budget":"1","models":[],"max_requests":1,"max_tokens":1,"max_parallel":1}"#,
        )
        .unwrap();
        assert_eq!(Duration::from_millis(purse.silence_ms), SILENCE);
        let thinking = stream::once(async {
            sleep(Duration::from_mins(9)).await;
            Ok(Frame::data(Bytes::from_static(b"data: [DONE]\n\n")))
        });
        let (head, kept) = oneshot::channel();
        assert_eq!(ended(thinking.chain(words().take(3)), head).await, Ended::Whole);
        drop(kept);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_breaks_off_or_falls_silent_is_at_fault() {
        let reader = |mut kept: oneshot::Receiver<Answer>| async move {
            let mut answer = (&mut kept).await.unwrap();
            while let Some(Ok(_)) = answer.frame().await {}
        };
        let (head, kept) = oneshot::channel();
        let (ended_one, ()) = tokio::join!(ended(words().take(100).chain(broken()), head), reader(kept));
        assert_eq!(ended_one, Ended::ByService);
        let (head, kept) = oneshot::channel();
        let silent = words().take(3).chain(stream::pending());
        let begun = Instant::now();
        let (ended_two, ()) = tokio::join!(ended(silent, head), reader(kept));
        assert_eq!(ended_two, Ended::ByService);
        assert_eq!(begun.elapsed(), SILENCE + Duration::from_secs(3));
        // Nobody reads any more, and the service breaks off by itself.
        let (head, gone) = oneshot::channel();
        drop(gone);
        assert_eq!(
            ended(words().take(3).chain(broken()), head).await,
            Ended::ByService
        );
    }
}
