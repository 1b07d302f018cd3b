//! All SQL. One function is one statement where it can be; transactions are short and never across network calls.
//!
//! Locks are taken in one order everywhere: queue rows (by run), purses (by level and owner), evaluations. Times that
//! decide about leases are the database's.

pub mod agents;
pub mod artifacts;
pub mod attempts;
pub mod audit;
pub mod evaluations;
pub mod events;
pub mod keys;
pub mod outputs;
pub mod purses;
pub mod queue;
pub mod runs;
pub mod submit;
pub mod task_sets;
pub mod tasks;
pub mod wake;
pub mod workers;

use std::time::Duration;

use assay_core::{digest::Digest, money::PicoUsd};
use sqlx::{
    PgPool,
    migrate::Migrate as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// A transaction.
pub type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or did not answer.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The migrations could not be applied.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this build cannot read.
    #[error("cannot read {column}: {message}")]
    Corrupt {
        /// Where.
        column: &'static str,
        /// Why.
        message: String,
    },
}

impl Error {
    /// May the same call succeed later?
    pub fn is_transient(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        if let Some(code) = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
        {
            // Deadlock and serialization, shutting down, starting up, too many connections.
            return code.starts_with("40") || code.starts_with("57P") || code == "53300";
        }
        matches!(
            error,
            sqlx::Error::PoolTimedOut
                | sqlx::Error::Io(_)
                | sqlx::Error::PoolClosed
                | sqlx::Error::Protocol(_)
        )
    }

    /// The statement met a unique row that is there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Sql(error) if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation))
    }

    fn corrupt(column: &'static str, message: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            column,
            message: message.to_string(),
        }
    }
}

/// Connects; waits for nothing but the first connection.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, Error> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.application_name("assay-api").options([
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("lock_timeout", "10s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5));
    Ok(pool.connect_with(options).await?)
}

/// Applies the migrations that are missing.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    Ok(MIGRATIONS.run(pool).await?)
}

/// Are all migrations of this build applied? Later ones do no harm: schemas change in steps that the build before bears.
pub async fn is_migrated(pool: &PgPool) -> Result<bool, Error> {
    let table = sqlx::query_scalar!(r#"SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS "there!""#);
    if !table.fetch_one(pool).await? {
        return Ok(false);
    }
    let mut conn = pool.acquire().await?;
    let applied = conn.list_applied_migrations(&MIGRATIONS.table_name).await?;
    let applied = |version| applied.iter().any(|migration| migration.version == version);
    Ok(MIGRATIONS.iter().all(|migration| applied(migration.version)))
}

/// The schema, embedded.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The id of this installation.
pub async fn installation(pool: &PgPool) -> Result<String, Error> {
    Ok(sqlx::query_scalar!("SELECT id FROM installation")
        .fetch_one(pool)
        .await?)
}

/// Begins a transaction.
pub async fn begin(pool: &PgPool) -> Result<Tx, Error> {
    Ok(pool.begin().await?)
}

/// Does the database answer?
pub async fn ping(pool: &PgPool) -> Result<(), Error> {
    sqlx::query_scalar!("SELECT 1").fetch_one(pool).await?;
    Ok(())
}

/// What time the database has.
pub async fn time(pool: &PgPool) -> Result<jiff::Timestamp, Error> {
    let query =
        sqlx::query_scalar!(r#"SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT AS "ms!""#);
    let milliseconds = query.fetch_one(pool).await?;
    jiff::Timestamp::from_millisecond(milliseconds).map_err(|error| Error::corrupt("clock_timestamp", error))
}

fn digest(column: &'static str, text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|error| Error::corrupt(column, error))
}

fn word<T>(column: &'static str, text: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
    read(text).ok_or_else(|| Error::corrupt(column, text))
}

fn json<T: serde::de::DeserializeOwned>(column: &'static str, value: serde_json::Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::corrupt(column, error))
}

fn to_json<T: serde::Serialize>(column: &'static str, value: &T) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::corrupt(column, error))
}

fn small(column: &'static str, value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|error| Error::corrupt(column, error))
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn big(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A sum of money from a `NUMERIC` column; above the largest amount it becomes that.
fn money(sum: rust_decimal::Decimal) -> PicoUsd {
    use rust_decimal::prelude::ToPrimitive as _;
    PicoUsd::from_pico(
        sum.to_u64()
            .unwrap_or(if sum.is_sign_negative() { 0 } else { u64::MAX }),
    )
}
