//! The schema: how it comes about, and whether this program may run on the one that is there.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use tokio::time::timeout;

use super::{Budget, Db};
use crate::domain::{Error, Result};

pub use super::migrate::{migrate, needed_version};

/// How long a check on a connection of its own may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why this program may not run on the schema that is there.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// It lacks migrations that this program needs.
    #[error(
        "the database's schema is at version {0}, this program needs {1}: run `planasonix migrate` first"
    )]
    TooOld(i64, i64),
    /// Text of any script could not be stored.
    #[error("the database's encoding is {0}, and must be UTF8: create it with ENCODING 'UTF8'")]
    NotUtf8(String),
    /// A later migration excludes this program.
    #[error("the database's schema serves programs from {0} on, and this is {1}: run a newer one")]
    TooNew(String, &'static str),
}

/// Creates a database on this server, if it is not there yet.
///
/// # Errors
/// The server is away, or it refused.
pub async fn create_database(server: &PgConnectOptions, name: &'static str) -> Result<()> {
    let mut connection = PgConnection::connect_with(server).await?;
    let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if there.is_none() {
        let sql = format!("CREATE DATABASE \"{name}\"");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

/// Whether this program may run on the schema that is there. On a connection of its own: unlike a lane,
/// it tells why there is none.
///
/// # Errors
/// Only those of the database.
pub async fn check(options: &PgConnectOptions) -> Result<Result<(), Mismatch>> {
    let checked = timeout(PATIENCE, async {
        let mut connection = PgConnection::connect_with(options).await?;
        let judged = look(&mut connection).await?;
        connection.close().await?;
        Ok(judged)
    });
    checked.await.unwrap_or_else(|elapsed| Err(Error::Unavailable(elapsed.into())))
}

impl Db {
    /// The same, for a service that runs.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn check_schema(&self, budget: &Budget) -> Result<Result<(), Mismatch>> {
        self.probe()
            .run("check_schema", budget, |mut connection| async move { look(&mut connection).await })
            .await
    }
}

async fn look(connection: &mut PgConnection) -> Result<Result<(), Mismatch>> {
    let database = sqlx::query!(
        r#"SELECT to_regclass('schema_support') IS NOT NULL AS "has_schema!",
                  current_setting('server_encoding') AS "encoding!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    if database.encoding != "UTF8" {
        return Ok(Err(Mismatch::NotUtf8(database.encoding)));
    }
    if !database.has_schema {
        return Ok(Err(Mismatch::TooOld(0, needed_version())));
    }
    let row = sqlx::query!(
        r#"SELECT COALESCE(max(migration), 0) AS "version!",
                  COALESCE(max(oldest_program), '{0,0,0}') AS "oldest_program!"
           FROM schema_support"#
    )
    .fetch_one(connection)
    .await?;
    Ok(judge(row.version, &row.oldest_program))
}

fn judge(version: i64, oldest_program: &[i32]) -> Result<(), Mismatch> {
    const THIS: &str = env!("CARGO_PKG_VERSION");
    let this: Vec<i32> = THIS.split('.').map(|part| part.parse().unwrap_or_default()).collect();
    if version < needed_version() {
        Err(Mismatch::TooOld(version, needed_version()))
    } else if oldest_program > this.as_slice() {
        let oldest: Vec<String> = oldest_program.iter().map(ToString::to_string).collect();
        Err(Mismatch::TooNew(oldest.join("."), THIS))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_refused_only_if_it_lacks_or_excludes_us() {
        let needed = needed_version();
        assert!(judge(needed, &[0, 0, 9]).is_ok());
        assert!(judge(needed + 1, &[0, 1, 0]).is_ok(), "a newer schema that still serves us");
        assert!(matches!(judge(needed - 1, &[0, 1, 0]), Err(Mismatch::TooOld(..))));
        assert!(matches!(judge(needed + 1, &[0, 10, 0]), Err(Mismatch::TooNew(..))));
    }
}
