//! Money that may be spent. Callers take the locks of all purses that they will change first, ordered by level and owner.

use std::collections::HashMap;

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Error;

/// Level of the operator's account.
pub const OPERATOR: i16 = 0;
/// Level of a tenant's purse.
pub const TENANT: i16 = 1;
/// Level of an evaluation's purse.
pub const EVALUATION: i16 = 2;
/// Level of a run's two purses.
pub const RUN: i16 = 3;

/// One purse by level, owner and purpose.
pub type Name = (i16, Uuid, &'static str);

/// A purse's account, pico-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purse {
    /// No limit when absent.
    pub granted: Option<i128>,
    /// Held by attempts under way.
    pub reserved: i128,
    /// Spent.
    pub settled: i128,
}

impl Purse {
    /// What can still be reserved.
    pub fn free(&self) -> i128 {
        self.granted.map_or(i128::from(i64::MAX), |granted| {
            (granted - self.reserved - self.settled).max(0)
        })
    }
}

/// Locked purses and the changes to be written.
#[derive(Debug, Default)]
pub struct Locked {
    purses: HashMap<Name, Purse>,
    changed: HashMap<Name, Purse>,
}

/// Those of these runs, whose queue rows the caller has locked, that have money left to reserve.
///
/// Without one nobody needs the purses above, which all runs of a tenant share: their locks are left to others.
pub async fn with_money(conn: &mut PgConnection, runs: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT owner FROM purses
         WHERE level = 3 AND owner = ANY($1) AND (granted IS NULL OR granted > reserved + settled)",
        runs
    )
    .fetch_all(conn)
    .await?)
}

/// Locks the purses of runs, evaluations and tenants that exist.
pub async fn lock(conn: &mut PgConnection, owners: &[Uuid]) -> Result<Locked, Error> {
    let rows = sqlx::query!(
        "SELECT level, owner, purpose, granted, reserved, settled FROM purses
         WHERE level BETWEEN 1 AND 3 AND owner = ANY($1) ORDER BY level, owner, purpose FOR UPDATE",
        owners
    )
    .fetch_all(conn)
    .await?;
    let mut purses = HashMap::new();
    for row in rows {
        let purse = Purse {
            granted: row.granted.map(i128::from),
            reserved: whole(row.reserved)?,
            settled: whole(row.settled)?,
        };
        purses.insert((row.level, row.owner, purpose(&row.purpose)?), purse);
    }
    Ok(Locked {
        purses,
        changed: HashMap::new(),
    })
}

impl Locked {
    /// The purse as it is after the changes so far.
    pub fn of(&self, name: Name) -> Option<Purse> {
        self.changed
            .get(&name)
            .or_else(|| self.purses.get(&name))
            .copied()
    }

    /// Moves amounts of a purse; one that does not exist is left alone.
    pub fn add(&mut self, name: Name, reserved: i128, settled: i128) {
        if let Some(mut purse) = self.of(name) {
            purse.reserved = (purse.reserved + reserved).max(0);
            purse.settled += settled;
            self.changed.insert(name, purse);
        }
    }

    /// Writes what changed.
    pub async fn save(self, conn: &mut PgConnection) -> Result<(), Error> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let (mut levels, mut owners, mut purposes) = (Vec::new(), Vec::new(), Vec::<String>::new());
        let (mut reserved, mut settled) = (Vec::new(), Vec::new());
        for ((level, owner, purpose), purse) in self.changed {
            levels.push(level);
            owners.push(owner);
            purposes.push(purpose.to_owned());
            reserved.push(Decimal::from(purse.reserved));
            settled.push(Decimal::from(purse.settled));
        }
        sqlx::query!(
            "UPDATE purses p SET reserved = n.reserved, settled = n.settled
             FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::numeric[], $5::numeric[])
                  AS n (level, owner, purpose, reserved, settled)
             WHERE p.level = n.level AND p.owner = n.owner AND p.purpose = n.purpose",
            &levels,
            &owners,
            &purposes,
            &reserved,
            &settled,
        )
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// Books on the operator what nobody else pays.
pub async fn book_operator(conn: &mut PgConnection, pico: i128) -> Result<(), Error> {
    if pico <= 0 {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO purses (level, owner, purpose, settled) VALUES ($1, $2, 'operator', $3)
         ON CONFLICT (level, owner, purpose) DO UPDATE SET settled = purses.settled + EXCLUDED.settled",
        OPERATOR,
        Uuid::nil(),
        Decimal::from(pico),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn purpose(word: &str) -> Result<&'static str, Error> {
    ["all", "agent", "verifier", "operator"]
        .into_iter()
        .find(|purpose| *purpose == word)
        .ok_or_else(|| Error::corrupt("purses.purpose", word))
}

fn whole(amount: Decimal) -> Result<i128, Error> {
    i128::try_from(amount).map_err(|error| Error::corrupt("purses", error))
}
