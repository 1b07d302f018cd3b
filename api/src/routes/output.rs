//! `GET /v1/attempts/{id}/output[s]`: what programs printed.

use std::time::Duration;

use assay_core::{
    id::AttemptId,
    wire::people::{Output, Page},
};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, header};

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{Id, Json, Query, Reader},
    refusal::Refusal,
    routes::query,
    store::{
        self,
        outputs::{Body, Chunk, Name},
    },
};

/// Which streams of output exist.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}/outputs",
    tag = "attempts",
    operation_id = "list_outputs",
    params(("id" = AttemptId, Path, description = "The attempt."), query::Streams),
    responses((status = 200, body = Page<Output>)),
    extensions(("x-scopes" = json!(Reader::SCOPES)))
)]
pub async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
    Query(which): Query<query::Streams>,
) -> Result<Json<Page<Output>>, Refusal> {
    let mut reader = app.wake.reader(id, Duration::from_millis(which.wait_ms));
    loop {
        let attempt = super::attempts::find(&app, caller.tenant, id).await?;
        let items = store::outputs::streams(&app.pool, id).await?;
        let stored: u64 = items.iter().map(|stream| stream.bytes).sum();
        if stored > which.beyond || attempt.finished_at.is_some() || !reader.again().await {
            return Ok(Json(Page { items, next: None }));
        }
    }
}

/// Raw bytes of a stream from the offset, at most a MiB or so.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}/output",
    tag = "attempts",
    operation_id = "read_output",
    params(("id" = AttemptId, Path, description = "The attempt."), query::Piece),
    responses((status = 200, body = [u8], content_type = "application/octet-stream", description = "The bytes, none when nothing new is there.", headers(
        ("assay-offset" = u64, description = "Where the bytes begin: later than asked where the middle of a long stream was not kept."),
        ("assay-next-offset" = u64, description = "Where to go on; the offset asked for when nothing new is there.")
    ))),
    extensions(("x-scopes" = json!(Reader::SCOPES)), ("x-codes" = json!([Code::ObjectsUnavailable])))
)]
pub async fn read(
    State(app): State<Shared>,
    Reader(caller): Reader,
    Id(id): Id<AttemptId>,
    Query(which): Query<query::Piece>,
) -> Result<Response, Refusal> {
    let name = Name {
        attempt: id,
        step: which.step,
        phase: which.phase,
        stream: which.stream,
    };
    let mut reader = app.wake.reader(id, Duration::from_millis(which.wait_ms));
    let (begin, bytes) = loop {
        // Its end is asked for before its output: what came until then is found.
        let attempt = super::attempts::find(&app, caller.tenant, id).await?;
        let (begin, bytes) = contiguous(&app, name, which.offset).await?;
        if !bytes.is_empty() || attempt.finished_at.is_some() || !reader.again().await {
            break (begin, bytes);
        }
    };
    let next = begin + u64::try_from(bytes.len()).unwrap_or(0);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (HeaderName::from_static("assay-offset"), begin.to_string()),
        (HeaderName::from_static("assay-next-offset"), next.to_string()),
    ];
    Ok((headers, bytes).into_response())
}

async fn contiguous(app: &App, name: Name, offset: u64) -> Result<(u64, Vec<u8>), Refusal> {
    let chunks = store::outputs::after(&app.pool, name, offset, CHUNKS_PER_ANSWER).await?;
    let Some(first) = chunks.first() else {
        return Ok((offset, Vec::new()));
    };
    let begin = first.offset.max(offset);
    let mut bytes = Vec::new();
    for chunk in chunks {
        let at = begin + u64::try_from(bytes.len()).unwrap_or(0);
        if chunk.offset > at || bytes.len() >= MAX_ANSWER_BYTES {
            break;
        }
        let skip = usize::try_from(at - chunk.offset).unwrap_or(usize::MAX);
        bytes.extend_from_slice(content(app, chunk).await?.get(skip..).unwrap_or_default());
    }
    Ok((begin, bytes))
}

async fn content(app: &App, chunk: Chunk) -> Result<Vec<u8>, Refusal> {
    let key = match chunk.body {
        Body::Inline(bytes) => return Ok(bytes),
        Body::Object(key) => key,
    };
    let Some(body) = app.objects.get(&key).await? else {
        tracing::error!(object = %key, "a chunk of output is missing in the object store");
        return Err(Refusal::internal());
    };
    // Every chunk was at most 256 KiB when it was taken.
    let whole = body
        .collect()
        .await
        .map_err(|error| crate::objects::Error::File(error.into()))?;
    Ok(whole.to_vec())
}

/// Rows looked at for one answer.
const CHUNKS_PER_ANSWER: i64 = 64;
/// An answer ends with the chunk that reaches this.
const MAX_ANSWER_BYTES: usize = 1 << 20;
