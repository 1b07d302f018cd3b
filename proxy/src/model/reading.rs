//! Passes a good answer on to the workload while reading what it cost.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
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

    /// Copies the body to the workload, as long as it is there, and to ourselves. True when it came to its end.
    ///
    /// The draft of a recording gets what the reader gets, or would. `named` gets the service's name of the answer as soon as the answer tells it.
    pub async fn copy(
        &mut self,
        body: &mut Incoming,
        delivery: &mut Delivery,
        (secrets, draft): (&Secrets, &mut Option<Draft>),
        mut named: impl FnMut(&str),
    ) -> bool {
        let mut scrubber = Scrubber::new(secrets);
        let (mut give_up, mut is_named) = (None, false);
        loop {
            if delivery.is_gone() && matches!(self.form, Form::Events(_)) {
                give_up.get_or_insert_with(|| Instant::now() + DRAIN);
            }
            let idle = Instant::now() + self.silence;
            let until = give_up.map_or(idle, |end| idle.min(end));
            let frame = match timeout_at(until, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) | Err(_) => {
                    delivery.break_off().await;
                    return false;
                }
            };
            if let Ok(data) = frame.into_data() {
                let out = scrubber.push(self.take(data));
                pass_some(delivery, draft, out).await;
            }
            if !is_named && let Some(id) = self.id() {
                named(id);
                is_named = true;
            }
        }
        let last = scrubber.push(self.finish());
        pass_some(delivery, draft, last).await;
        pass_some(delivery, draft, scrubber.finish()).await;
        true
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
const MOST_WHOLE: usize = 8 * 1024 * 1024;
