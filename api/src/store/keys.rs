//! Tenants and API keys. Only hashes of secrets are kept.

use assay_core::{
    id::{KeyId, TenantId},
    wire::people::{Revoked, Scope},
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Error;
use crate::identity::Identity;

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

/// The holder of the key with that hash, and the one worker that it stands for, where it is bound to one.
pub async fn find(pool: &PgPool, hash: &[u8; 32]) -> Result<Option<(Holder, Option<Identity>)>, Error> {
    let row = sqlx::query!(
        "SELECT id, tenant, scope, name, worker_class FROM keys WHERE hash = $1 AND revoked_at IS NULL",
        hash.as_slice()
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let scope = super::word("keys.scope", &row.scope, scope_of)?;
    let holder = Holder {
        key: KeyId(row.id),
        tenant: TenantId(row.tenant),
        scope,
    };
    let name = row.name;
    let worker = row.worker_class.map(|class| Identity { name, class });
    Ok(Some((holder, worker)))
}

/// Keeps a key. One with a class is bound to the worker of its name.
pub async fn insert(
    conn: &mut PgConnection,
    holder: Holder,
    name: &str,
    worker_class: Option<&str>,
    hash: &[u8; 32],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO keys (id, tenant, name, scope, worker_class, hash) VALUES ($1, $2, $3, $4, $5, $6)",
        holder.key.0,
        holder.tenant.0,
        name,
        holder.scope.name(),
        worker_class,
        hash.as_slice(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Revokes the keys of a tenant that have this name, and hands over the leases of the worker that they were bound to.
/// Says how many of each there were.
pub async fn revoke(conn: &mut PgConnection, tenant: TenantId, name: &str) -> Result<Revoked, Error> {
    let bound = sqlx::query_scalar!(
        r#"UPDATE keys SET revoked_at = now() WHERE tenant = $1 AND name = $2 AND revoked_at IS NULL
           RETURNING worker_class IS NOT NULL AS "bound!""#,
        tenant.0,
        name,
    )
    .fetch_all(&mut *conn)
    .await?;
    let keys = u64::try_from(bound.len()).unwrap_or(u64::MAX);
    let leases = if bound.contains(&true) {
        super::workers::end(conn, name).await?
    } else {
        0
    };
    Ok(Revoked { keys, leases })
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
