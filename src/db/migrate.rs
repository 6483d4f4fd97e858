//! Applies migrations while replicas of the previous version serve. `migrations/README.md` has the rules that
//! the files follow.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator},
    postgres::PgConnectOptions,
    raw_sql,
};
use tokio::time::{Instant, sleep};

use super::{error::sqlstate, statements::split};
use crate::domain::{Error, Result};

/// Longest wait for a lock within a transaction. Heartbeats queue behind a statement that waits for ACCESS
/// EXCLUSIVE, so this must stay well below the flush's statement timeout of 1.5 s.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// First pause after a lock timeout; doubled each time up to `MAX_LOCK_PAUSE`.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
const MAX_LOCK_PAUSE: Duration = Duration::from_secs(10);
/// After this time without the lock, the migration fails and can be started again.
const LOCK_PATIENCE: Duration = Duration::from_mins(10);
/// Interval between attempts to become the one process that migrates.
const TURN_INTERVAL: Duration = Duration::from_millis(200);

/// Deadlock, lock timeout: the same statement succeeds later.
const LOCK_CONFLICTS: [&str; 2] = ["40P01", "55P03"];
const TABLE: &str = "_sqlx_migrations";

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Applies every pending migration, one after the other, on a connection of its own. Returns the schema's version. One of
/// a newer program is left as it is: a replica of the previous version must be able to start during a rolling upgrade.
/// `schema::check` says whether the schema serves this program.
///
/// # Errors
/// `Unavailable` if a lock was not granted within ten minutes. A migration that failed within a transaction left
/// nothing; one without continues where it failed when `migrate` is run again.
pub async fn migrate(options: &PgConnectOptions) -> Result<i64> {
    let mut connection = PgConnection::connect_with(options).await?;
    let migrated = run(&mut connection).await;
    connection.close().await?;
    migrated
}

async fn run(connection: &mut PgConnection) -> Result<i64> {
    // Defaults of the role or the database are meant for requests.
    raw_sql("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        .execute(&mut *connection)
        .await?;
    notice_lost_client(connection).await?;
    if let Some(version) = complete_schema(connection).await? {
        return Ok(version);
    }
    wait_for_turn(connection).await?;
    connection.ensure_migrations_table(TABLE).await.map_err(failed)?;
    if let Some(version) = connection.dirty_version(TABLE).await.map_err(failed)? {
        return Err(failed(MigrateError::Dirty(version)));
    }
    let applied = connection.list_applied_migrations(TABLE).await.map_err(failed)?;
    let (newest, needed) = (newest(&applied), needed_version());
    let pending = pending(&applied).map_err(failed)?;
    if newest > needed
        && let Some(missing) = pending.first()
    {
        let missing = missing.version;
        let why = format!(
            "migration {missing} is missing from a schema at version {newest}: no release leaves it so"
        );
        return Err(Error::Internal(why.into()));
    }
    for migration in pending {
        if migration.no_tx {
            apply_statements(connection, migration).await?;
        } else {
            apply_transaction(connection, migration).await?;
        }
    }
    Ok(newest.max(needed))
}

/// The version of a schema that lacks none of this program's migrations. Read before the lock is waited for: a newer
/// program may hold it for an hour, building an index.
async fn complete_schema(connection: &mut PgConnection) -> Result<Option<i64>> {
    let is_there = sqlx::query_scalar!(r#"SELECT to_regclass($1) IS NOT NULL AS "is_there!""#, TABLE)
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(None);
    }
    let (applied, needed) =
        (connection.list_applied_migrations(TABLE).await.map_err(failed)?, needed_version());
    let unfinished = connection.dirty_version(TABLE).await.map_err(failed)?;
    let is_finished = unfinished.is_none_or(|version| version > needed);
    if !is_finished || !pending(&applied).map_err(failed)?.is_empty() {
        return Ok(None);
    }
    let newest = newest(&applied);
    if newest > needed {
        tracing::info!(
            schema = newest,
            program = needed,
            "the schema is newer than this program; nothing to migrate"
        );
    }
    Ok(Some(newest))
}

fn newest(applied: &[AppliedMigration]) -> i64 {
    applied.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The version of the schema that this program needs.
pub fn needed_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Has the server notice within a second that this process ended, also in a statement that runs or waits for a lock,
/// which would otherwise keep its locks until it is done. Not every platform of the server can, and a migration works
/// without.
async fn notice_lost_client(connection: &mut PgConnection) -> Result<()> {
    match raw_sql("SET client_connection_check_interval = '500ms'").execute(connection).await {
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The migrations to apply, in order. Those that are applied must be the same as this program's, or later ones.
fn pending(applied: &[AppliedMigration]) -> Result<Vec<&'static Migration>, MigrateError> {
    let ups = || MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration());
    let needed = needed_version();
    for old in applied.iter().filter(|old| old.version <= needed) {
        let same = ups().find(|migration| migration.version == old.version);
        let same = same.ok_or(MigrateError::VersionMissing(old.version))?;
        if same.checksum != old.checksum {
            return Err(MigrateError::VersionMismatch(old.version));
        }
    }
    Ok(ups().filter(|migration| applied.iter().all(|old| old.version != migration.version)).collect())
}

/// Takes the session's advisory lock by polling. A session that waits inside `pg_advisory_lock`, as sqlx's migrator
/// does, holds a snapshot that CREATE INDEX CONCURRENTLY of the session with the lock waits for: a deadlock.
async fn wait_for_turn(connection: &mut PgConnection) -> Result<()> {
    loop {
        let acquired = sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_lock(hashtextextended('planasonix migrate', 0)) AS "acquired!""#
        )
        .fetch_one(&mut *connection)
        .await?;
        if acquired {
            return Ok(());
        }
        sleep(TURN_INTERVAL).await;
    }
}

/// Applies one migration in a transaction. A lock that is not granted soon is asked for again after a pause, in
/// which the statements that queued behind it proceed.
async fn apply_transaction(connection: &mut PgConnection, migration: &Migration) -> Result<()> {
    set_lock_timeout(connection, LOCK_TIMEOUT).await?;
    let started = Instant::now();
    let mut pause = LOCK_PAUSE;
    loop {
        match connection.apply(TABLE, migration).await {
            Err(error) if is_lock_conflict(&error) && started.elapsed() < LOCK_PATIENCE => {
                tracing::warn!(migration = migration.version, %error, "migration waits for a lock");
                sleep(pause).await;
                pause = MAX_LOCK_PAUSE.min(2 * pause);
            }
            result => return result.map(drop).map_err(failed),
        }
    }
}

/// Applies one migration statement by statement, without a transaction. Each statement can be repeated, so a
/// migration that was interrupted starts again from its beginning.
async fn apply_statements(connection: &mut PgConnection, migration: &Migration) -> Result<()> {
    // These take no lock that stops reads or writes. Their wait for older transactions has no limit.
    set_lock_timeout(connection, Duration::ZERO).await?;
    for statement in split(migration.sql.as_str()) {
        if let Some(index) = built_index(statement) {
            drop_invalid_index(connection, index).await?;
        }
        raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    connection.skip(TABLE, migration).await.map_err(failed)
}

/// The name in `CREATE [UNIQUE] INDEX CONCURRENTLY IF NOT EXISTS name`.
fn built_index(statement: &str) -> Option<&str> {
    let mut words = statement.lines().filter(|line| !line.trim_start().starts_with("--"));
    let mut words = words.by_ref().flat_map(str::split_whitespace);
    (words.next()? == "CREATE").then_some(())?;
    let mut words = words.skip_while(|word| *word != "EXISTS").skip(1);
    words.next()
}

/// A build that was interrupted leaves an index that is maintained, never used, and found by IF NOT EXISTS.
async fn drop_invalid_index(connection: &mut PgConnection, index: &str) -> Result<()> {
    let invalid = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)
           AS "invalid!""#,
        index,
    )
    .fetch_one(&mut *connection)
    .await?;
    if invalid {
        tracing::warn!(index, "dropping an index whose build was interrupted");
        let drop_index = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
        raw_sql(AssertSqlSafe(drop_index)).execute(connection).await?;
    }
    Ok(())
}

async fn set_lock_timeout(connection: &mut PgConnection, limit: Duration) -> Result<()> {
    let limit = limit.as_millis().to_string();
    sqlx::query_scalar!("SELECT set_config('lock_timeout', $1, false)", limit).fetch_one(connection).await?;
    Ok(())
}

fn is_lock_conflict(error: &MigrateError) -> bool {
    let (MigrateError::ExecuteMigration(cause, _) | MigrateError::Execute(cause)) = error else {
        return false;
    };
    sqlstate(cause).is_some_and(|code| LOCK_CONFLICTS.contains(&code.as_str()))
}

fn failed(error: MigrateError) -> Error {
    if is_lock_conflict(&error) { Error::Unavailable(error.into()) } else { Error::Internal(error.into()) }
}
