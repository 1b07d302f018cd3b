//! Output of programs: immutable chunks, an index row each, small ones inside it.

use assay_core::{
    id::AttemptId,
    wire::{channel::Channel, people::Output},
};
use sqlx::{PgConnection, PgPool};

use super::{Error, big, count, small};

/// One stream of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The attempt.
    pub attempt: AttemptId,
    /// The step, from 0.
    pub step: u32,
    /// Which stream.
    pub channel: Channel,
}

impl Name {
    fn step(&self) -> i32 {
        i32::try_from(self.step).unwrap_or(i32::MAX)
    }
}

/// Where a chunk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In the row.
    Inline(Vec<u8>),
    /// In the object store, under this key.
    Object(String),
}

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its first byte's place in the stream.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Its bytes.
    pub body: Body,
}

/// Bytes stored so far.
pub async fn end(pool: &PgPool, name: Name) -> Result<u64, Error> {
    let bytes = sqlx::query_scalar!(
        "SELECT bytes FROM output_streams WHERE attempt = $1 AND step = $2 AND phase = $3 AND stream = $4",
        name.attempt.0,
        name.step(),
        name.channel.phase(),
        name.channel.stream()
    )
    .fetch_optional(pool)
    .await?;
    Ok(bytes.map_or(0, count))
}

/// Appends a chunk if the stream still ends at `end`; false when somebody else was quicker.
pub async fn append(conn: &mut PgConnection, name: Name, end: u64, chunk: &Chunk) -> Result<bool, Error> {
    let moved = sqlx::query!(
        "INSERT INTO output_streams AS s (attempt, step, phase, stream, bytes) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (attempt, step, phase, stream) DO UPDATE SET bytes = EXCLUDED.bytes WHERE s.bytes = $6",
        name.attempt.0,
        name.step(),
        name.channel.phase(),
        name.channel.stream(),
        big(chunk.offset + chunk.length),
        big(end),
    )
    .execute(&mut *conn)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    let (inline, object) = match &chunk.body {
        Body::Inline(bytes) => (Some(bytes.as_slice()), None),
        Body::Object(key) => (None, Some(key.as_str())),
    };
    sqlx::query!(
        r#"INSERT INTO output_chunks (attempt, step, phase, stream, "offset", length, inline, object)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"#,
        name.attempt.0,
        name.step(),
        name.channel.phase(),
        name.channel.stream(),
        big(chunk.offset),
        i32::try_from(chunk.length).unwrap_or(i32::MAX),
        inline,
        object,
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// Chunks that reach beyond `offset`, in order.
pub async fn after(pool: &PgPool, name: Name, offset: u64, limit: i64) -> Result<Vec<Chunk>, Error> {
    let rows = sqlx::query!(
        r#"SELECT "offset", length, inline, object FROM output_chunks
           WHERE attempt = $1 AND step = $2 AND phase = $3 AND stream = $4
             AND "offset" >= COALESCE((SELECT max("offset") FROM output_chunks
                                       WHERE attempt = $1 AND step = $2 AND phase = $3 AND stream = $4
                                         AND "offset" <= $5), 0)
             AND "offset" + length > $5
           ORDER BY "offset" LIMIT $6"#,
        name.attempt.0,
        name.step(),
        name.channel.phase(),
        name.channel.stream(),
        big(offset),
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let body = match (row.inline, row.object) {
                (Some(bytes), _) => Body::Inline(bytes),
                (None, Some(key)) => Body::Object(key),
                (None, None) => return Err(Error::corrupt("output_chunks", "neither inline nor object")),
            };
            Ok(Chunk {
                offset: count(row.offset),
                length: count(row.length.into()),
                body,
            })
        })
        .collect()
}

/// The streams of an attempt.
pub async fn streams(pool: &PgPool, attempt: AttemptId) -> Result<Vec<Output>, Error> {
    let rows = sqlx::query!(
        "SELECT step, phase, stream, bytes FROM output_streams WHERE attempt = $1 ORDER BY step, phase, stream",
        attempt.0
    )
    .fetch_all(pool)
    .await?;
    let mut streams = rows
        .into_iter()
        .map(|row| {
            Ok(Output {
                step: small("output_streams.step", row.step.into())?,
                channel: Channel::from_words(&row.phase, &row.stream)
                    .map_err(|error| Error::corrupt("output_streams.stream", error.to_string()))?,
                bytes: count(row.bytes),
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    streams.sort_by_key(|output| (output.step, output.channel));
    Ok(streams)
}
