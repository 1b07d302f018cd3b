//! `GET /v1/attempts/{id}/output[s]`: what programs printed and proxies wrote down.

use std::time::Duration;

use assay_core::{
    id::AttemptId,
    wire::{
        channel::Channel,
        people::{Output, Page},
    },
};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, header};

use crate::{
    app::Shared,
    code::Code,
    evidence,
    extract::{Id, Json, Query, Reader},
    refusal::Refusal,
    routes::query,
    store::{self, outputs::Name},
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
        channel: channel(&which.phase, &which.stream)?,
    };
    let mut reader = app.wake.reader(id, Duration::from_millis(which.wait_ms));
    let (begin, bytes) = loop {
        // Its end is asked for before its output: what came until then is found.
        let attempt = super::attempts::find(&app, caller.tenant, id).await?;
        let (begin, bytes) = evidence::stretch(&app, name, which.offset).await?;
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

/// The stream of two words of a query.
pub fn channel(phase: &str, stream: &str) -> Result<Channel, Refusal> {
    Channel::from_words(phase, stream).map_err(|error| Refusal::invalid(error.to_string()))
}
