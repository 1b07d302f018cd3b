//! Submitted agents.

use assay_core::{
    agent::Contract,
    id::{AgentId, TenantId},
    wire::people::Agent,
};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Error, big, digest, word};

struct Row {
    id: Uuid,
    name: String,
    contract: String,
    digest: Option<String>,
    created_at: Timestamp,
}

impl TryFrom<Row> for Agent {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: AgentId(row.id),
            name: row.name,
            contract: word("agents.contract", &row.contract, Contract::from_name)?,
            digest: row
                .digest
                .map(|text| digest("agents.digest", &text))
                .transpose()?,
            created_at: row.created_at.to_jiff(),
        })
    }
}

/// Keeps an agent and returns it.
pub async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: AgentId,
    new: &assay_core::wire::people::NewAgent,
    size_bytes: u64,
) -> Result<Agent, Error> {
    sqlx::query_as!(
        Row,
        "INSERT INTO agents (id, tenant, name, contract, digest, size_bytes) VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING id, name, contract, digest, created_at",
        id.0,
        tenant.0,
        new.name,
        new.contract.name(),
        new.digest.map(|digest| digest.to_string()),
        big(size_bytes),
    )
    .fetch_one(conn)
    .await?
    .try_into()
}

/// The agent of that id.
pub async fn find(pool: &PgPool, tenant: TenantId, id: AgentId) -> Result<Option<Agent>, Error> {
    sqlx::query_as!(
        Row,
        "SELECT id, name, contract, digest, created_at FROM agents WHERE tenant = $1 AND id = $2",
        tenant.0,
        id.0
    )
    .fetch_optional(pool)
    .await?
    .map(Agent::try_from)
    .transpose()
}

/// Newest first, before `cursor`.
pub async fn page(
    pool: &PgPool,
    tenant: TenantId,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Agent>, Error> {
    sqlx::query_as!(
        Row,
        "SELECT id, name, contract, digest, created_at FROM agents
         WHERE tenant = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        tenant.0,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Agent::try_from)
    .collect()
}
