//! `planasonix migrate`, and which schemas `serve` runs on.

use sqlx::PgConnection;

use super::{on, serve};
use crate::support::{ask::eventually, database::Database, program::Program};

/// Holds the lock of a program that migrates, which may take an hour, until the connection is dropped.
async fn hold_migrations(database: &Database) -> PgConnection {
    let mut connection = database.connect().await;
    let lock = "SELECT pg_advisory_lock(hashtextextended('planasonix migrate', 0))";
    sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = Database::empty().await;
    let first = on(&database, &["migrate"]).run().answer();
    let schema = database.dump();
    let _migrating = hold_migrations(&database).await;
    let again = on(&database, &["migrate"]).run().answer();
    assert_eq!(first, again);
    assert!(first.starts_with("the schema is at version "), "{first}");
    assert_eq!(database.dump(), schema);
    assert_eq!(serve(&database, &[]).start().until_serving().stop().stdout, "");
}

#[tokio::test]
async fn no_command_takes_an_empty_database() {
    let database = Database::empty().await;
    let list = ["api-key", "list", "--workspace", "acme"];
    for program in [serve(&database, &[]), on(&database, &["workspace", "list"]), on(&database, &list)] {
        let told = program.run().complaint();
        assert!(told.contains("run `planasonix migrate` first"), "{told}");
    }
}

#[tokio::test]
async fn serve_brings_the_schema_along_when_it_is_told_to() {
    let flag = Database::empty().await;
    serve(&flag, &["--migrate"]).start().until_serving();
    serve(&flag, &[]).start().until_serving();
    for yes in ["true", "1"] {
        let variable = Database::empty().await;
        serve(&variable, &[]).variable("PLANASONIX_MIGRATE", yes).start().until_serving();
    }
}

#[tokio::test]
async fn serve_refuses_a_schema_that_lacks_a_migration() {
    let database = Database::create().await;
    database.forget_the_last_migration().await;
    let told = serve(&database, &[]).run().complaint();
    assert!(told.contains("this program needs") && told.contains("planasonix migrate"), "{told}");
}

#[tokio::test]
async fn serve_refuses_a_schema_that_excludes_it_and_no_other_newer_one() {
    let database = Database::create().await;
    database.migrate_beyond_us([0, 1, 0]).await;
    serve(&database, &[]).start().until_serving();
    database.migrate_beyond_us([99, 0, 0]).await;
    let told = serve(&database, &[]).run().complaint();
    assert!(told.contains("99.0.0") && told.contains(env!("CARGO_PKG_VERSION")), "{told}");
}

/// A replica of the previous version that restarts during a rolling upgrade.
#[tokio::test]
async fn newer_schema_that_serves_the_program_is_left_as_it_is() {
    let database = Database::create().await;
    database.migrate_beyond_us([0, 1, 0]).await;
    let (schema, dev) = (database.dump(), tempfile::tempdir().unwrap());
    let _migrating = hold_migrations(&database).await;
    let migrated = on(&database, &["migrate"]).run();
    assert!(migrated.status.success(), "{migrated:?}");
    assert!(migrated.stdout.contains(", newer than this program's "), "{}", migrated.stdout);
    assert_eq!(database.dump(), schema);
    serve(&database, &["--migrate"]).start().until_serving();
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--data-dir", dev.path().to_str().unwrap()];
    let dev = Program::new(&arguments).variable("PLANASONIX_DEV_DATABASE_URL", &database.url());
    dev.start().until_it_says("API=http://127.0.0.1:");
}

#[tokio::test]
async fn no_command_migrates_a_schema_that_excludes_it() {
    let database = Database::create().await;
    database.migrate_beyond_us([99, 0, 0]).await;
    let schema = database.dump();
    for program in [on(&database, &["migrate"]), serve(&database, &["--migrate"])] {
        let told = program.run();
        assert!(!told.status.success() && told.stderr.contains("serves programs from 99.0.0 on"), "{told:?}");
    }
    assert_eq!(database.dump(), schema);
}

/// A hole below the newer migrations is no state that any program leaves.
#[tokio::test]
async fn newer_schema_that_lacks_a_migration_is_refused() {
    let database = Database::create().await;
    database.migrate_beyond_us([0, 1, 0]).await;
    database.forget_an_applied_migration(7).await;
    for program in [on(&database, &["migrate"]), serve(&database, &["--migrate"])] {
        let told = program.run();
        assert!(!told.status.success() && told.stderr.contains("migration 7 is missing"), "{told:?}");
    }
}

/// Whoever runs already says so when the schema is taken from under it.
#[tokio::test]
async fn a_server_that_the_schema_excludes_meanwhile_is_not_ready() {
    let database = Database::create().await;
    let server = serve(&database, &[]).start().until_serving();
    let ready = format!("http://{}/readyz", server.address());
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 200);
    database.migrate_beyond_us([99, 0, 0]).await;
    // The last answer is shared for a second.
    eventually(async || (reqwest::get(&ready).await.unwrap().status() == 503).then_some(())).await;
}
