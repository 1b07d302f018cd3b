//! NOTIFY and LISTEN: which attempts have something new.

use std::collections::BTreeSet;

use assay_core::id::AttemptId;
use sqlx::{PgPool, postgres::PgListener};

use super::Error;

/// Tells every replica. More attempts than fit in one payload become "perhaps any".
pub async fn notify(pool: &PgPool, attempts: &BTreeSet<AttemptId>) -> Result<(), Error> {
    let names: Vec<String> = attempts.iter().map(ToString::to_string).collect();
    let payload = if names.len() > MOST_NAMES {
        String::new()
    } else {
        names.join(" ")
    };
    sqlx::query!(r#"SELECT pg_notify($1, $2) AS "told!: ()""#, CHANNEL, payload)
        .execute(pool)
        .await?;
    Ok(())
}

/// A connection of its own that hears [`notify`] of all replicas.
pub async fn listen(pool: &PgPool) -> Result<PgListener, Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Waits for the next word: the attempts that it names, or one `None` for "perhaps any", also after a lost connection.
pub async fn heard(listener: &mut PgListener) -> Result<Vec<Option<AttemptId>>, Error> {
    let Some(word) = listener.try_recv().await? else {
        return Ok(vec![None]);
    };
    let names = word.payload().split(' ');
    Ok(names.map(|name| name.parse().ok()).collect())
}

const CHANNEL: &str = "assay_stored";
/// A payload has less than 8000 bytes, a name 36 and a space.
const MOST_NAMES: usize = 200;
