//! `POST /v1/uploads`: where to put an archive.

use assay_core::wire::people::{NewUpload, Upload};
use axum::extract::State;

use crate::{
    app::Shared,
    code::Code,
    extract::{Json, Submitter},
    objects,
    refusal::Refusal,
};

/// Says where to put an archive: a presigned PUT, or none when it is there already.
#[utoipa::path(
    post,
    path = "/v1/uploads",
    tag = "uploads",
    operation_id = "create_upload",
    request_body = NewUpload,
    responses((status = 200, body = Upload)),
    extensions(("x-scopes" = json!(Submitter::SCOPES)), ("x-codes" = json!([Code::ArchiveTooLarge, Code::ObjectsUnavailable])))
)]
pub async fn create(
    State(app): State<Shared>,
    Submitter(caller): Submitter,
    Json(new): Json<NewUpload>,
) -> Result<Json<Upload>, Refusal> {
    let most = app.config.max_archive_bytes;
    if new.size_bytes == 0 || new.size_bytes > most {
        let detail = format!("an archive has 1 to {most} bytes, not {}", new.size_bytes);
        return Err(Refusal::new(Code::ArchiveTooLarge, detail));
    }
    if app
        .objects
        .size(&objects::archive(caller.tenant, new.digest))
        .await?
        .is_some()
    {
        return Ok(Json(Upload { url: None }));
    }
    let key = objects::incoming(caller.tenant, new.digest);
    let url = app
        .objects
        .presign_put(&key, new.size_bytes, None, objects::Side::Outside)
        .await?;
    Ok(Json(Upload { url: Some(url) }))
}
