//! How an answer gets to the workload: in pieces as they come, or, where it is short and its length is known, whole at
//! its end. That is one message in place of several, and nobody can use half of a JSON document.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    answer::{self, Answer},
    refusal::Refusal,
};

/// An answer under way to the workload.
#[derive(Debug)]
pub struct Delivery(State);

#[derive(Debug)]
enum State {
    /// The workload has gone.
    Gone,
    Pieces(mpsc::Sender<io::Result<Bytes>>),
    Whole {
        head: oneshot::Sender<Answer>,
        headers: HeaderMap,
        kept: BytesMut,
    },
}

impl Delivery {
    /// Of pieces: the head goes out now.
    pub fn in_pieces(headers: HeaderMap, head: oneshot::Sender<Answer>) -> Self {
        let (sender, out) = answer::stream();
        let mut answer = Response::new(out);
        *answer.headers_mut() = headers;
        Self(match head.send(answer) {
            Ok(()) => State::Pieces(sender),
            Err(_) => State::Gone,
        })
    }

    /// Of a document: whole where it is short.
    pub fn of(body: &Incoming, headers: HeaderMap, head: oneshot::Sender<Answer>) -> Self {
        let length = body.size_hint().exact();
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(length) if length <= MOST_SHORT => Self(State::Whole {
                head,
                headers,
                kept: BytesMut::with_capacity(length),
            }),
            _ => Self::in_pieces(headers, head),
        }
    }

    /// Has the workload gone?
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            State::Gone => true,
            State::Pieces(_) => false,
            State::Whole { head, .. } => head.is_closed(),
        }
    }

    /// Gives a piece; forgets a workload that has gone.
    pub async fn pass(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        match &mut self.0 {
            State::Gone => {}
            State::Whole { kept, .. } => kept.extend_from_slice(&piece),
            State::Pieces(_) => self.send(Ok(piece)).await,
        }
    }

    /// The service broke off: says so where that is still possible, else breaks off too.
    pub async fn break_off(&mut self) {
        match std::mem::replace(&mut self.0, State::Gone) {
            State::Gone => {}
            State::Whole { head, .. } => {
                let refusal = Refusal::provider("upstream_broken", "The model service broke the connection.");
                drop(head.send(refusal.answer()));
            }
            pieces @ State::Pieces(_) => {
                self.0 = pieces;
                self.send(Err(io::ErrorKind::ConnectionReset.into())).await;
            }
        }
    }

    /// There is no more.
    pub fn finish(self) {
        if let State::Whole { head, headers, kept } = self.0 {
            let mut answer = Response::new(answer::full(kept));
            *answer.headers_mut() = headers;
            drop(head.send(answer));
        }
    }

    async fn send(&mut self, piece: io::Result<Bytes>) {
        if let State::Pieces(sender) = &self.0
            && !matches!(timeout(PATIENCE, sender.send(piece)).await, Ok(Ok(())))
        {
            self.0 = State::Gone;
        }
    }
}

/// How long the workload may take for a piece.
const PATIENCE: Duration = Duration::from_mins(10);
/// An answer of a few pages.
const MOST_SHORT: usize = 64 * 1024;
