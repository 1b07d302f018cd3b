//! `POST /v1/attempts/{id}/events`: appends events and moves the attempt's row.

use assay_core::{
    id::AttemptId,
    wire::worker::{NewEvent, PostEvents},
};
use axum::extract::State;
use http::StatusCode;

use crate::{
    app::Shared,
    code::Code,
    extract::{Id, Json, WorkerKey},
    observe,
    refusal::Refusal,
    store,
};

/// Appends events and moves the attempt's row. Numbers go on after the last one stored; repeated ones are ignored, a gap is refused.
#[utoipa::path(
    post,
    path = "/v1/attempts/{id}/events",
    tag = "workers",
    operation_id = "append_events",
    params(("id" = AttemptId, Path, description = "The attempt.")),
    request_body = PostEvents,
    responses((status = 204, description = "Done.")),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::StaleFence, Code::EventGap])))
)]
pub async fn append(
    State(app): State<Shared>,
    WorkerKey(_worker): WorkerKey,
    Id(id): Id<AttemptId>,
    Json(mut post): Json<PostEvents>,
) -> Result<StatusCode, Refusal> {
    observe::about_attempt(id, post.fence);
    let mut tx = store::begin(&app.pool).await?;
    let open = store::attempts::lock_open(&mut tx, id, post.fence).await?;
    let open = open.ok_or_else(Refusal::stale_fence)?;
    observe::about_run(open.run);
    let repeated = !post.events.is_empty() && post.events.iter().all(|event| event.seq <= open.last_seq);
    post.events.retain(|event| event.seq > open.last_seq);
    let last_seq = follow(open.last_seq, &post.events)?;
    if !post.events.is_empty() {
        store::events::append(&mut tx, open.tenant, id, &post.events).await?;
    }
    // A repeated post is old news: it must not move the row back.
    if !repeated {
        store::attempts::advance(&mut tx, id, last_seq, &post.progress).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn follow(mut last: u64, events: &[NewEvent]) -> Result<u64, Refusal> {
    for event in events {
        if event.seq != last + 1 {
            let detail = format!("event {} cannot follow {last}", event.seq);
            return Err(Refusal::new(Code::EventGap, detail));
        }
        if event.kind.is_empty() || event.kind.len() > 64 {
            return Err(Refusal::invalid("events.kind: want 1 to 64 bytes"));
        }
        last = event.seq;
    }
    Ok(last)
}
