//! Registered workers.

use assay_core::{id::WorkerId, wire::worker::Register};
use sqlx::{PgConnection, PgPool};

use super::Error;

/// A worker as the queue sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its id for this life.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Which runs it may take.
    pub class: String,
    /// The commit that it was built from.
    pub commit: String,
}

/// Keeps a worker. Leases of its former life may be adopted at once: that life is over.
pub async fn register(conn: &mut PgConnection, id: WorkerId, new: &Register) -> Result<(), Error> {
    end(conn, &new.name).await?;
    sqlx::query!(
        "INSERT INTO workers (id, name, class, slots, engine, commit, wire) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        id.0,
        new.name,
        new.class,
        i32::try_from(new.slots).unwrap_or(i32::MAX),
        new.engine,
        new.commit,
        i32::try_from(new.wire).unwrap_or(i32::MAX),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Hands over what the workers of a name hold. Says how many leases that were.
pub async fn end(conn: &mut PgConnection, name: &str) -> Result<u64, Error> {
    let ended = sqlx::query!(
        "UPDATE run_queue SET handed_off = TRUE, lease_until = now()
         WHERE state = 'leased' AND lease_owner IN (SELECT id FROM workers WHERE name = $1)",
        name
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected())
}

/// The worker of that id.
pub async fn find(pool: &PgPool, id: WorkerId) -> Result<Option<Worker>, Error> {
    let row = sqlx::query!("SELECT name, class, commit FROM workers WHERE id = $1", id.0)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| Worker {
        id,
        name: row.name,
        class: row.class,
        commit: row.commit,
    }))
}

/// Notes that a worker lives and whether it still claims.
pub async fn seen(pool: &PgPool, id: WorkerId, claiming: bool) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE workers SET seen_at = now(), claiming = $2 WHERE id = $1",
        id.0,
        claiming
    )
    .execute(pool)
    .await?;
    Ok(())
}
