//! Registered tasks.

use assay_core::{digest::Digest, id::TenantId, wire::people::Task};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, big, count, digest, json, to_json};

/// What registration found out about a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Digest of its archive.
    pub digest: Digest,
    /// Its name.
    pub name: String,
    /// Size of its archive.
    pub size_bytes: u64,
    /// What the checks warned about.
    pub warnings: Vec<String>,
    /// Longest time for one attempt by the task's own limits, seconds, before the policy's multiplier.
    pub longest_sec: Option<f64>,
    /// Values that a submit must bring.
    pub needs_values: Vec<String>,
}

/// What a submit needs to know of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Brief {
    /// Its digest.
    pub digest: String,
    /// Its name.
    pub name: String,
    /// See [`Checked::longest_sec`].
    pub longest_sec: Option<f64>,
    /// Values that a submit must bring.
    pub needs_values: Vec<String>,
}

struct Row {
    id: Uuid,
    digest: String,
    name: String,
    size_bytes: i64,
    warnings: serde_json::Value,
    created_at: Timestamp,
}

impl TryFrom<Row> for Task {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            digest: digest("tasks.digest", &row.digest)?,
            name: row.name,
            size_bytes: count(row.size_bytes),
            warnings: json("tasks.warnings", row.warnings)?,
            created_at: row.created_at.to_jiff(),
        })
    }
}

/// Keeps a task; one that is there already stays as it is, for its content is the same.
pub async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: Uuid,
    task: &Checked,
) -> Result<Task, Error> {
    sqlx::query_as!(
        Row,
        "INSERT INTO tasks (id, tenant, digest, name, size_bytes, warnings, longest_sec, needs_values)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant, digest) DO UPDATE SET digest = EXCLUDED.digest
         RETURNING id, digest, name, size_bytes, warnings, created_at",
        id,
        tenant.0,
        task.digest.to_string(),
        task.name,
        big(task.size_bytes),
        to_json("tasks.warnings", &task.warnings)?,
        task.longest_sec,
        &task.needs_values,
    )
    .fetch_one(conn)
    .await?
    .try_into()
}

/// The task of that digest.
pub async fn find(pool: &PgPool, tenant: TenantId, digest: Digest) -> Result<Option<Task>, Error> {
    sqlx::query_as!(
        Row,
        "SELECT id, digest, name, size_bytes, warnings, created_at FROM tasks WHERE tenant = $1 AND digest = $2",
        tenant.0,
        digest.to_string()
    )
    .fetch_optional(pool)
    .await?
    .map(Task::try_from)
    .transpose()
}

/// Newest first, before `cursor`; with the cursor of the last one.
pub async fn page(
    pool: &PgPool,
    tenant: TenantId,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<(Uuid, Task)>, Error> {
    sqlx::query_as!(
        Row,
        "SELECT id, digest, name, size_bytes, warnings, created_at FROM tasks
         WHERE tenant = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        tenant.0,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|row| Ok((row.id, Task::try_from(row)?)))
    .collect()
}

/// What is known of these digests; unknown ones are absent.
pub async fn briefs(pool: &PgPool, tenant: TenantId, digests: &[String]) -> Result<Vec<Brief>, Error> {
    Ok(sqlx::query_as!(
        Brief,
        "SELECT digest, name, longest_sec, needs_values FROM tasks WHERE tenant = $1 AND digest = ANY($2)",
        tenant.0,
        digests
    )
    .fetch_all(pool)
    .await?)
}
