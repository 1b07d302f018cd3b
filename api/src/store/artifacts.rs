//! Files that an attempt left: rows here, bytes in the object store.

use assay_core::{digest::Digest, id::AttemptId, wire::worker::PutArtifact};
use sqlx::{PgConnection, PgPool};

use super::{Error, big, count, digest};

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name within the attempt.
    pub name: String,
    /// MIME type.
    pub media_type: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its key in the object store.
    pub object: String,
}

/// Announces an artifact; announced again (by an adopter) it is replaced.
pub async fn put(
    conn: &mut PgConnection,
    attempt: AttemptId,
    new: &PutArtifact,
    object: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO artifacts (attempt, name, media_type, size_bytes, digest, object) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (attempt, name) DO UPDATE
         SET media_type = EXCLUDED.media_type, size_bytes = EXCLUDED.size_bytes, digest = EXCLUDED.digest,
             object = EXCLUDED.object",
        attempt.0,
        new.name,
        new.media_type,
        big(new.size_bytes),
        new.digest.to_string(),
        object,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The artifacts of an attempt, by name.
pub async fn of_attempt(pool: &PgPool, attempt: AttemptId) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query!(
        "SELECT name, media_type, size_bytes, digest, object FROM artifacts WHERE attempt = $1 ORDER BY name",
        attempt.0
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Stored {
                name: row.name,
                media_type: row.media_type,
                size_bytes: count(row.size_bytes),
                digest: digest("artifacts.digest", &row.digest)?,
                object: row.object,
            })
        })
        .collect()
}
