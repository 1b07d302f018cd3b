//! Tenants and API keys. Only hashes of secrets are kept.

use assay_core::{
    id::{KeyId, TenantId},
    wire::people::Scope,
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Error;

/// Who showed a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The key.
    pub key: KeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What it may do.
    pub scope: Scope,
}

/// The holder of the key with that hash.
pub async fn find(pool: &PgPool, hash: &[u8; 32]) -> Result<Option<Holder>, Error> {
    let row = sqlx::query!(
        "SELECT id, tenant, scope FROM keys WHERE hash = $1 AND revoked_at IS NULL",
        hash.as_slice()
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let scope = super::word("keys.scope", &row.scope, scope_of)?;
    Ok(Some(Holder {
        key: KeyId(row.id),
        tenant: TenantId(row.tenant),
        scope,
    }))
}

/// Keeps a key.
pub async fn insert(
    conn: &mut PgConnection,
    holder: Holder,
    name: &str,
    hash: &[u8; 32],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO keys (id, tenant, name, scope, hash) VALUES ($1, $2, $3, $4, $5)",
        holder.key.0,
        holder.tenant.0,
        name,
        holder.scope.name(),
        hash.as_slice(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The tenant of that name, made with `id` where there is none.
pub async fn ensure_tenant(conn: &mut PgConnection, id: Uuid, name: &str) -> Result<TenantId, Error> {
    let id = sqlx::query_scalar!(
        "INSERT INTO tenants (id, name) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name RETURNING id",
        id,
        name,
    )
    .fetch_one(conn)
    .await?;
    Ok(TenantId(id))
}

fn scope_of(word: &str) -> Option<Scope> {
    [Scope::Validator, Scope::Viewer, Scope::Admin, Scope::Worker]
        .into_iter()
        .find(|scope| scope.name() == word)
}
