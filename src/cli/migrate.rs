//! `planasonix migrate`

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::{failure::Failure, output};
use crate::{
    config::Database,
    db::{Db, LaneSizes, schema},
};

/// Brings the schema up to this program's.
///
/// # Errors
/// The database is away, or a migration failed.
pub async fn run(database: &Database) -> Result<(), Failure> {
    schema::migrate(&options(database)?).await?;
    Ok(output::line(&format!("the schema is at version {}", schema::needed_version()))?)
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
