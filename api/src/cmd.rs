//! The command line of `assay-api`.

use std::{io::Write as _, time::Duration};

use assay_core::wire::people::{NewKey, Scope};
use assay_runtime::{
    lifecycle::{self, Signals},
    telemetry,
};
use clap::{Parser, Subcommand, ValueEnum};

use crate::{Config, Database, server, store};

/// The API server of Assay: queue, store of record, objects.
#[derive(Debug, Parser)]
#[command(name = "assay-api", version)]
pub struct Arguments {
    /// Logging.
    #[command(flatten)]
    pub log: telemetry::LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM. The database must be migrated.
    Serve(Box<Config>),
    /// Apply the migrations that are missing.
    Migrate(Database),
    /// Wait until the schema is the one that this build knows.
    Migrated(Database),
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Print the OpenAPI document of the public port.
    Openapi,
}

/// API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print its secret; only its hash is kept.
    Create {
        /// The database.
        #[command(flatten)]
        database: Database,
        /// The tenant; made when it does not exist.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// A name for people.
        #[arg(long)]
        name: String,
        /// What it may do.
        #[arg(long, value_enum)]
        scope: ScopeWord,
        /// Bind a worker's key to the worker of its name, which takes runs of this class only.
        #[arg(long, value_name = "CLASS")]
        worker_class: Option<String>,
    },
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    /// Submit, cancel, read.
    Validator,
    /// Read.
    Viewer,
    /// Everything a validator may, and keys.
    Admin,
    /// The worker's calls.
    Worker,
}

impl From<ScopeWord> for Scope {
    fn from(word: ScopeWord) -> Self {
        match word {
            ScopeWord::Validator => Self::Validator,
            ScopeWord::Viewer => Self::Viewer,
            ScopeWord::Admin => Self::Admin,
            ScopeWord::Worker => Self::Worker,
        }
    }
}

/// Runs a command to its end.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::start(&arguments.log);
    match arguments.command {
        Command::Serve(config) => serve(*config).await,
        Command::Migrate(database) => {
            let pool = store::connect(&database.database_url, 1).await?;
            store::migrate(&pool).await?;
            Ok(())
        }
        Command::Migrated(database) => migrated(&database).await,
        Command::Openapi => Ok(write!(std::io::stdout(), "{}", crate::openapi::text())?),
        Command::Key(KeyCommand::Create {
            database,
            tenant,
            name,
            scope,
            worker_class,
        }) => {
            let pool = store::connect(&database.database_url, 1).await?;
            let new = NewKey {
                name,
                scope: scope.into(),
                worker_class,
            };
            let secret = crate::key::create(&pool, &tenant, new).await?;
            writeln!(std::io::stdout(), "{secret}")?;
            Ok(())
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let bound = server::Server::bind(config).await?;
    let (public, internal) = bound.addresses()?;
    tracing::info!(%public, %internal, "listening");
    let ended = lifecycle::serve("api", GRACE, |stop| bound.run(stop)).await?;
    Ok(ended.unwrap_or(Ok(()))?)
}

/// Looks once a second until the migrations of this build are there, or a signal comes.
async fn migrated(database: &Database) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    loop {
        match look(database).await {
            Ok(true) => return Ok(()),
            Ok(false) => tracing::info!("waiting for the migrations of this build"),
            Err(error) => tracing::info!(%error, "waiting for the database"),
        }
        // cancel-safe: nothing is under way.
        tokio::select! {
            _ = signals.next() => anyhow::bail!("stopped before the schema was there"),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(database: &Database) -> Result<bool, store::Error> {
    let pool = store::connect(&database.database_url, 1).await?;
    let there = store::is_migrated(&pool).await;
    pool.close().await;
    there
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest time for requests under way once stopping.
const GRACE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_options_have_the_same_name() {
        super::Arguments::command().debug_assert();
    }
}
