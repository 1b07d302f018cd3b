//! Makes API keys: `assay_` and 256 random bits. Only the hash is kept.

use assay_core::{
    id::{KeyId, TenantId},
    wire::people::{Key, NewKey, Scope},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{PgConnection, PgPool};

use crate::{
    app::fresh_id,
    seal::key_hash,
    store::{self, audit::Actor, keys::Holder},
};

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A fresh key, kept nowhere yet.
pub fn fresh(new: NewKey) -> Result<Key, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let secret = format!("assay_{}", URL_SAFE_NO_PAD.encode(random));
    Ok(Key {
        id: KeyId(fresh_id()?),
        name: new.name,
        scope: new.scope,
        worker_class: new.worker_class,
        secret,
    })
}

/// Keeps a key's hash.
pub async fn keep(conn: &mut PgConnection, tenant: TenantId, key: &Key) -> Result<(), store::Error> {
    let holder = Holder {
        key: key.id,
        tenant,
        scope: key.scope,
    };
    let class = key.worker_class.as_deref();
    store::keys::insert(conn, holder, &key.name, class, &key_hash(&key.secret)).await
}

/// Makes a key of a tenant, which is made too where it does not exist.
pub async fn create_key(pool: &PgPool, tenant: &str, name: &str, scope: Scope) -> Result<String, Error> {
    let new = NewKey {
        name: name.to_owned(),
        scope,
        worker_class: None,
    };
    create(pool, tenant, new).await
}

/// The same for a key that may be bound to a worker.
pub async fn create(pool: &PgPool, tenant: &str, new: NewKey) -> Result<String, Error> {
    let key = fresh(new)?;
    let mut tx = store::begin(pool).await?;
    let tenant = store::keys::ensure_tenant(&mut tx, fresh_id()?, tenant).await?;
    keep(&mut tx, tenant, &key).await?;
    store::audit::append(
        &mut tx,
        Actor { tenant, key: None },
        "key.create",
        &key.id.to_string(),
    )
    .await?;
    tx.commit().await?;
    Ok(key.secret)
}
