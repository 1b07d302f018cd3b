//! Who changed what: one row per mutation, in its transaction.

use assay_core::id::{KeyId, TenantId};
use sqlx::PgConnection;

use super::Error;

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The owner of what is touched.
    pub tenant: TenantId,
    /// The key that was shown; none for the command line.
    pub key: Option<KeyId>,
}

/// Appends a row.
pub async fn append(conn: &mut PgConnection, actor: Actor, action: &str, subject: &str) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit (tenant, key, action, subject) VALUES ($1, $2, $3, $4)",
        actor.tenant.0,
        actor.key.map(|key| key.0),
        action,
        subject,
    )
    .execute(conn)
    .await?;
    Ok(())
}
