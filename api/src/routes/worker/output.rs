//! `PUT /v1/attempts/{id}/output`: appends a chunk of a stream.

use assay_core::id::AttemptId;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;

use crate::{
    app::{App, Shared},
    code::Code,
    extract::{Id, Query, WorkerKey},
    observe,
    refusal::Refusal,
    routes::{output::channel, query},
    store::{
        self,
        outputs::{Body, Chunk, Name},
    },
};

/// Appends a chunk of a stream. What is stored already is ignored; a chunk may begin later than the stream ends, where the worker
/// dropped the middle.
#[utoipa::path(
    put,
    path = "/v1/attempts/{id}/output",
    tag = "workers",
    operation_id = "append_output",
    params(("id" = AttemptId, Path, description = "The attempt."), query::Chunk),
    request_body(content = [u8], content_type = "application/octet-stream", description = "At most 256 KiB."),
    responses((status = 204, description = "Done.")),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::StaleFence, Code::OutputRaced, Code::ObjectsUnavailable])))
)]
pub async fn append(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(id): Id<AttemptId>,
    Query(which): Query<query::Chunk>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    observe::about_attempt(id, which.fence);
    if body.len() > MAX_CHUNK_BYTES {
        let detail = format!("a chunk has at most {MAX_CHUNK_BYTES} bytes");
        return Err(Refusal::new(Code::BodyTooLarge, detail));
    }
    if !store::attempts::is_open(&app.pool, id, which.fence).await? {
        return Err(Refusal::stale_fence());
    }
    let name = Name {
        attempt: id,
        step: which.step,
        channel: channel(&which.phase, &which.stream)?,
    };
    for _ in 0..MAX_RACES {
        let end = store::outputs::end(&app.pool, name).await?;
        let Some((offset, rest)) = unstored(which.offset, &body, end) else {
            return Ok(StatusCode::NO_CONTENT);
        };
        let chunk = chunk(&app, name, offset, rest).await?;
        let mut tx = store::begin(&app.pool).await?;
        let open = store::attempts::lock_open(&mut tx, id, which.fence).await?;
        observe::about_run(open.ok_or_else(Refusal::stale_fence)?.run);
        if store::outputs::append(&mut tx, name, end, &chunk).await? {
            tx.commit().await?;
            app.wake.stored([id]);
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    let detail = "another writer of this stream was quicker; read its end and go on from there";
    Err(Refusal::new(Code::OutputRaced, detail))
}

/// What of the chunk lies beyond the stream's end.
fn unstored(offset: u64, body: &Bytes, end: u64) -> Option<(u64, Bytes)> {
    let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
    (known < body.len()).then(|| (offset.max(end), body.slice(known..)))
}

async fn chunk(app: &App, name: Name, offset: u64, bytes: Bytes) -> Result<Chunk, Refusal> {
    let length = u64::try_from(bytes.len()).unwrap_or(0);
    if bytes.len() <= MAX_INLINE_BYTES {
        return Ok(Chunk {
            offset,
            length,
            body: Body::Inline(bytes.to_vec()),
        });
    }
    let key = format!(
        "output/{}/{}/{}/{offset:020}-{length}",
        name.attempt, name.step, name.channel
    );
    app.objects.put(&key, bytes).await?;
    Ok(Chunk {
        offset,
        length,
        body: Body::Object(key),
    })
}

/// Largest chunk.
const MAX_CHUNK_BYTES: usize = 256 << 10;
/// Larger ones go to the object store.
const MAX_INLINE_BYTES: usize = 16 << 10;
/// Writers of one stream are one after the other; a race means an adoption.
const MAX_RACES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_kept() {
        let body = Bytes::from_static(b"abcdef");
        assert_eq!(unstored(0, &body, 0), Some((0, body.clone())));
        assert_eq!(unstored(0, &body, 6), None);
        assert_eq!(unstored(0, &body, 4), Some((4, Bytes::from_static(b"ef"))));
        assert_eq!(unstored(10, &body, 4), Some((10, body.clone())));
        assert_eq!(unstored(0, &Bytes::new(), 0), None);
    }
}
