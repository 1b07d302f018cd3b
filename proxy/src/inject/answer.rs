//! An answer of a host that gets secret values, on its way to the workload.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::mpsc;

use super::request::drop_hops;
use crate::model::{
    answer::{self, Answer},
    refusal::Refusal,
    scrub::{Scrubber, Secrets},
};

/// The answer without the values, passed on as it comes. What cannot be read cannot be scrubbed, so it is refused.
pub(super) fn scrubbed(response: Response<Incoming>, secrets: Arc<Secrets>) -> Result<Answer, Refusal> {
    let (mut parts, body) = response.into_parts();
    if is_encoded(&parts.headers) || parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let message = "The host answered in a form that cannot be checked for secret values.";
        return Err(Refusal::provider("answer_unreadable", message));
    }
    parts.headers = clean(&parts.headers, &secrets);
    if body.is_end_stream() {
        if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        return Ok(Response::from_parts(parts, answer::full(Bytes::new())));
    }
    let (pieces, out) = answer::stream();
    tokio::spawn(copy(body, secrets, pieces));
    Ok(Response::from_parts(parts, out))
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn clean(headers: &HeaderMap, secrets: &Secrets) -> HeaderMap {
    let mut clean = headers.clone();
    drop_hops(&mut clean);
    clean
        .iter()
        .filter(|(_, value)| !secrets.are_in(value.as_bytes()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

async fn copy(mut body: Incoming, secrets: Arc<Secrets>, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let mut scrubber = Scrubber::new(&secrets);
    loop {
        let frame = tokio::select! {
            biased;
            () = pieces.closed() => return,
            // cancel-safe: nobody wants the rest.
            frame = body.frame() => frame,
        };
        let piece = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data().map(|data| scrubber.push(data)),
            Some(Err(_)) => {
                drop(pieces.send(Err(io::ErrorKind::ConnectionReset.into())).await);
                return;
            }
        };
        if let Ok(piece) = piece
            && !piece.is_empty()
            && pieces.send(Ok(piece)).await.is_err()
        {
            return;
        }
    }
    let last = scrubber.finish();
    if !last.is_empty() {
        drop(pieces.send(Ok(last)).await);
    }
}
