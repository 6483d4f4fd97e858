//! `planasonix migrate`

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::{failure::Failure, output};
use crate::{
    config::Database,
    db::{Db, LaneSizes, schema},
    lifecycle::stop_signal,
};

/// Brings the schema up to this program's. A newer one that serves this program is left as it is.
///
/// # Errors
/// The database is away, a migration failed, the schema excludes this program, or the process was asked to stop: its
/// caller must not take the schema for migrated.
pub async fn run(database: &Database) -> Result<(), Failure> {
    // First, so that it ends the process also as process 1, whose signals have no default action.
    let stop = stop_signal()?;
    let options = options(database)?;
    let version = tokio::select! {
        migrated = schema::migrate(&options) => migrated?,
        () = stop => return Err(Failure::new("stopped while migrating; run `planasonix migrate` again")),
    };
    schema::check(&options).await??;
    let needed = schema::needed_version();
    let newer = match version {
        version if version > needed => format!(", newer than this program's {needed}, which it serves"),
        _ => String::new(),
    };
    Ok(output::line(&format!("the schema is at version {version}{newer}"))?)
}

/// Reads a database's URL.
///
/// # Errors
/// It is none.
pub fn options(database: &Database) -> Result<PgConnectOptions, Failure> {
    PgConnectOptions::from_str(&database.database_url).map_err(|error| {
        Failure::new(format!("--database-url (DATABASE_URL) is not a Postgres URL: {error}"))
    })
}

/// The database, for the other commands.
///
/// # Errors
/// The URL is none, the database is away, or its schema is not this program's.
pub async fn db(database: &Database) -> Result<Db, Failure> {
    let options = options(database)?;
    schema::check(&options).await??;
    Ok(Db::new(options, LaneSizes { reads: 1, writes: 1 }))
}
