//! Named, immutable lists of tasks.

use assay_core::{
    id::{TaskSetId, TenantId},
    wire::people::{NewTaskSet, TaskSet},
};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, digest};

struct Row {
    id: Uuid,
    name: String,
    created_at: Timestamp,
    tasks: Vec<String>,
}

impl TryFrom<Row> for TaskSet {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: TaskSetId(row.id),
            name: row.name,
            tasks: row
                .tasks
                .iter()
                .map(|text| digest("task_set_items.task", text))
                .collect::<Result<_, _>>()?,
            created_at: row.created_at.to_jiff(),
        })
    }
}

/// Keeps a task set whose tasks are known to exist.
pub async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: TaskSetId,
    new: &NewTaskSet,
) -> Result<(), Error> {
    let tasks: Vec<String> = new.tasks.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "WITH made AS (INSERT INTO task_sets (id, tenant, name) VALUES ($1, $2, $3))
         INSERT INTO task_set_items (task_set, position, tenant, task)
         SELECT $1, (place - 1)::int, $2, task FROM unnest($4::text[]) WITH ORDINALITY AS given (task, place)",
        id.0,
        tenant.0,
        new.name,
        &tasks,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The task set of that id.
pub async fn find(pool: &PgPool, tenant: TenantId, id: TaskSetId) -> Result<Option<TaskSet>, Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, name, created_at,
                  ARRAY(SELECT task FROM task_set_items i WHERE i.task_set = s.id ORDER BY position) AS "tasks!"
           FROM task_sets s WHERE tenant = $1 AND id = $2"#,
        tenant.0,
        id.0
    )
    .fetch_optional(pool)
    .await?
    .map(TaskSet::try_from)
    .transpose()
}

/// Newest first, before `cursor`.
pub async fn page(
    pool: &PgPool,
    tenant: TenantId,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<TaskSet>, Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, name, created_at,
                  ARRAY(SELECT task FROM task_set_items i WHERE i.task_set = s.id ORDER BY position) AS "tasks!"
           FROM task_sets s WHERE tenant = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"#,
        tenant.0,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(TaskSet::try_from)
    .collect()
}
