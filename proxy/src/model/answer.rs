//! Bodies of answers: whole, or a stream from a task of ours that outlives the reader.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use serde::Serialize;
use tokio::sync::mpsc;

/// An answer to the workload.
pub type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// 200 with a JSON body.
pub fn json(value: &impl Serialize) -> Answer {
    let mut response = Response::new(full(serde_json::to_vec(value).unwrap_or_default()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A body that comes in pieces. Its length is not told.
pub fn stream() -> (mpsc::Sender<io::Result<Bytes>>, BoxBody<Bytes, io::Error>) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (sender, Pieces(receiver).boxed())
}

/// A body that breaks off after its last byte.
pub fn cut(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Cut {
        bytes: Some(bytes),
        has_paused: false,
    }
    .boxed()
}

struct Cut {
    bytes: Option<Bytes>,
    has_paused: bool,
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if !std::mem::replace(&mut self.has_paused, true) {
            // What was given is written before the end is told.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
    }
}

struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

const PIECES: usize = 16;
