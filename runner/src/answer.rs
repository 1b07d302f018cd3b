//! Answers: JSON, streams and problems.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use assay_core::{control::signature::Refusal, problem::Problem};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Any answer's body.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// An answer that ends a request early.
#[derive(Debug)]
pub(crate) struct Failure(Box<Response<Body>>);

impl From<Failure> for Response<Body> {
    fn from(failure: Failure) -> Self {
        *failure.0
    }
}

/// Pieces that are sent as they come. An error breaks the connection, so that the reader knows that it is not whole.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Pieces of this media type.
pub(crate) fn stream(media_type: &'static str, pieces: mpsc::Receiver<io::Result<Bytes>>) -> Response<Body> {
    build(StatusCode::OK, media_type, Pieces(pieces).boxed())
}

/// A JSON value.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => whole(status, "application/json", text),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()).into(),
    }
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    whole(status, "text/plain", Vec::new())
}

/// A problem with a stable code.
pub(crate) fn problem(status: StatusCode, code: &str, detail: &str) -> Failure {
    let problem = Problem::new(status.as_u16(), code, detail);
    Failure(Box::new(whole(
        status,
        "application/problem+json",
        serde_json::to_vec(&problem).unwrap_or_default(),
    )))
}

/// A refused signature.
pub(crate) fn refusal(refusal: Refusal) -> Failure {
    let (status, code) = match refusal {
        Refusal::Malformed => (StatusCode::UNAUTHORIZED, "malformed_signature"),
        Refusal::BadSignature => (StatusCode::UNAUTHORIZED, "bad_signature"),
        Refusal::WrongReceiver => (StatusCode::UNAUTHORIZED, "wrong_receiver"),
        Refusal::Expired => (StatusCode::UNAUTHORIZED, "signature_expired"),
        Refusal::StaleFence => (StatusCode::CONFLICT, "stale_fence"),
        Refusal::Replayed => (StatusCode::CONFLICT, "replayed"),
        Refusal::WrongContent => (StatusCode::BAD_REQUEST, "wrong_content"),
    };
    problem(status, code, &refusal.to_string())
}

/// A whole body.
pub(crate) fn whole(status: StatusCode, media_type: &'static str, text: Vec<u8>) -> Response<Body> {
    let body = Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed();
    build(status, media_type, body)
}

fn build(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}
