//! `POST /v1/attempts/{id}/artifacts`: announces a file and answers where to put it.

use assay_core::{
    id::AttemptId,
    wire::worker::{ArtifactUpload, PutArtifact},
};
use axum::extract::State;

use crate::{
    app::Shared,
    code::Code,
    extract::{Id, Json, WorkerKey},
    objects, observe,
    refusal::Refusal,
    store,
};

/// Announces a file and answers where to put it: one presigned PUT of exactly the announced size and digest, at most 2 GiB.
#[utoipa::path(
    post,
    path = "/v1/attempts/{id}/artifacts",
    tag = "workers",
    operation_id = "announce_artifact",
    params(("id" = AttemptId, Path, description = "The attempt.")),
    request_body = PutArtifact,
    responses((status = 200, body = ArtifactUpload)),
    extensions(("x-scopes" = json!(WorkerKey::SCOPES)), ("x-codes" = json!([Code::StaleFence, Code::ArtifactTooLarge, Code::ObjectsUnavailable])))
)]
pub async fn announce(
    State(app): State<Shared>,
    WorkerKey(worker): WorkerKey,
    Id(id): Id<AttemptId>,
    Json(new): Json<PutArtifact>,
) -> Result<Json<ArtifactUpload>, Refusal> {
    observe::about_attempt(id, new.fence);
    let sane = (1..=256).contains(&new.name.len()) && !new.name.chars().any(char::is_control);
    if !sane || new.media_type.len() > 128 {
        return Err(Refusal::invalid(
            "name: want 1 to 256 bytes without control characters",
        ));
    }
    if new.size_bytes > MAX_BYTES {
        let detail = format!("an artifact has at most {MAX_BYTES} bytes");
        return Err(Refusal::new(Code::ArtifactTooLarge, detail));
    }
    let key = objects::artifact(id, new.digest);
    let put = app
        .objects
        .presign_put(&key, new.size_bytes, Some(new.digest), worker.side);
    let url = put.await?;
    let mut tx = store::begin(&app.pool).await?;
    let open = store::attempts::lock_open(&mut tx, id, new.fence).await?;
    observe::about_run(open.ok_or_else(Refusal::stale_fence)?.run);
    store::artifacts::put(&mut tx, id, &new, &key).await?;
    tx.commit().await?;
    Ok(Json(ArtifactUpload { url }))
}

/// 2 GiB.
const MAX_BYTES: u64 = 2 << 30;
