//! Migrations that run beside replicas of the previous version: none stops reads or writes.

use std::{fs, time::Duration};

use planasonix::{db::schema, domain::Error};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::support::{
    database::Database,
    migrations::{files, problems},
};

/// Migrations that were written before the first release, for a schema that had never been deployed.
const BEFORE_FIRST_RELEASE: u32 = 12;
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn migrations_do_not_block_writes() {
    let (mut earlier, mut checked) = (String::new(), 0);
    for (number, sql) in files() {
        if number > BEFORE_FIRST_RELEASE {
            assert_eq!(problems(number, &sql, &earlier), Vec::<String>::new(), "migration {number}");
            checked += 1;
        }
        earlier.push_str(&sql);
    }
    assert!(checked > 0);
}

#[test]
fn migration_that_blocks_is_refused() {
    for sql in [
        "CREATE INDEX events_by_actor ON events (actor_id)",
        "CREATE UNIQUE INDEX i ON ONLY agents (label)",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON events (actor_id)",
        "DROP INDEX events_by_position",
        "DROP TABLE events",
        "LOCK TABLE agents",
        "TRUNCATE idempotency_keys",
        "REINDEX TABLE events",
        "SET lock_timeout = '1h'",
        "UPDATE agents SET label = 'x'",
        "/* all */ DELETE FROM events -- old\n WHERE at < now()",
        "WITH x AS (UPDATE agent_liveness SET draining = false RETURNING 1) SELECT count(*) FROM x",
        "DO $$ BEGIN UPDATE agents SET label = ''; END $$",
        "ALTER TABLE agents ADD COLUMN seen timestamptz DEFAULT clock_timestamp()",
        "ALTER TABLE agents ADD COLUMN a text, ADD COLUMN b uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE agents ADD COLUMN n bigserial",
        "ALTER TABLE agents ADD COLUMN n text NOT NULL",
        "ALTER TABLE agents ADD COLUMN n text GENERATED ALWAYS AS (label || 'x') STORED",
        "ALTER TABLE agents ADD COLUMN n int CHECK (n > 0)",
        "ALTER TABLE agents ADD CONSTRAINT c CHECK (label <> '')",
        "ALTER TABLE events ADD FOREIGN KEY (agent_id) REFERENCES agents",
        "ALTER TABLE agents ALTER COLUMN label TYPE varchar(255)",
        "ALTER TABLE agents ALTER label SET NOT NULL",
        "ALTER TABLE agents ADD CONSTRAINT c CHECK (label <> '') NOT VALID; ALTER TABLE agents VALIDATE CONSTRAINT c",
    ] {
        assert!(!problems(99, &recorded(sql), "").is_empty(), "{sql}");
    }
    for sql in [
        "CREATE INDEX i ON events (actor_id)",
        "CREATE INDEX CONCURRENTLY i ON events (actor_id)",
        "DROP INDEX CONCURRENTLY i",
        "UPDATE agents SET label = 'x'",
        "DO $$ BEGIN UPDATE agents SET label = ''; END $$",
        "ALTER TABLE agents ADD COLUMN n int",
    ] {
        assert!(!problems(99, &format!("-- no-transaction\n{}", repeatable(sql)), "").is_empty(), "{sql}");
    }
    assert!(!problems(99, "SELECT 1", "").is_empty(), "it does not write to schema_support");
}

#[test]
fn migration_that_does_not_block_is_allowed() {
    let earlier =
        "ALTER TABLE agents ADD CONSTRAINT agents_version_known CHECK (version IS NOT NULL) NOT VALID;
                   ALTER TABLE agents VALIDATE CONSTRAINT agents_version_known;";
    for sql in [
        "CREATE TABLE t (id uuid); CREATE INDEX i ON t (id); UPDATE t SET id = NULL; ALTER TABLE t ADD CHECK (true)",
        "ALTER TABLE agents ADD COLUMN n int NOT NULL DEFAULT 0, ADD COLUMN at timestamptz DEFAULT now()",
        "ALTER TABLE agents ADD CONSTRAINT c CHECK (label <> '') NOT VALID",
        "ALTER TABLE agents VALIDATE CONSTRAINT c",
        "ALTER TABLE agents ADD CONSTRAINT u UNIQUE USING INDEX i",
        "ALTER TABLE agents ALTER COLUMN version SET NOT NULL",
        "UPDATE workspaces SET name = slug",
        "SELECT id FROM workspaces FOR UPDATE",
        "CREATE TRIGGER t BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'UPDATE agents SET label = label; DELETE FROM events'",
    ] {
        assert_eq!(problems(99, &recorded(sql), earlier), Vec::<String>::new(), "{sql}");
    }
    for sql in [
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON events (actor_id)",
        "DROP INDEX CONCURRENTLY IF EXISTS i",
        "DO $$ BEGIN LOOP UPDATE agents SET label = '' WHERE id IN (SELECT id FROM agents LIMIT 1000);
         EXIT WHEN NOT FOUND; COMMIT; END LOOP; END $$",
    ] {
        let file = format!("-- no-transaction\n{}", repeatable(sql));
        assert_eq!(problems(99, &file, ""), Vec::<String>::new(), "{sql}");
    }
}

fn recorded(sql: &str) -> String {
    format!("{sql};\nINSERT INTO schema_support VALUES (99, '{{0,3,0}}');\n")
}

fn repeatable(sql: &str) -> String {
    format!("{sql};\nINSERT INTO schema_support VALUES (99, '{{0,3,0}}') ON CONFLICT DO NOTHING;\n")
}

/// The build of an index waits for a transaction that wrote before it. What comes meanwhile waits for neither.
#[tokio::test]
async fn index_build_lets_writes_proceed() {
    let database = at_version(13).await;
    let mut connection = database.connect().await;
    let fill = "INSERT INTO events (workspace_id, type, actor_type)
                SELECT gen_random_uuid(), 'registered', 'system' FROM generate_series(1, 200000)";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    let held = Writing::begin(&database, INSERT_EVENT).await;
    let migrating = start(&database);
    wait_for_build(&mut connection).await;
    for _ in 0..50 {
        write_promptly(&mut connection, INSERT_EVENT).await;
    }
    assert!(!migrating.is_finished(), "the build does not wait for the older transaction");
    held.commit().await;
    let mut writes = 0;
    while !migrating.is_finished() {
        write_promptly(&mut connection, INSERT_EVENT).await;
        writes += 1;
    }
    migrating.await.unwrap().unwrap();
    assert!(writes > 0);
    assert_eq!(invalid_indexes(&mut connection).await, 0);
}

#[tokio::test]
async fn interrupted_index_build_is_repeated() {
    let database = at_version(13).await;
    let mut connection = database.connect().await;
    let held = Writing::begin(&database, INSERT_EVENT).await;
    let migrating = start(&database);
    let building = wait_for_build(&mut connection).await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(building).execute(&mut connection).await.unwrap();
    migrating.await.unwrap().unwrap_err();
    assert_eq!(invalid_indexes(&mut connection).await, 1);
    held.commit().await;
    schema::migrate(&database.options).await.unwrap();
    assert_eq!(invalid_indexes(&mut connection).await, 0);
    assert_eq!(indexes(&mut connection).await, indexes(&mut Database::create().await.connect().await).await);
}

/// A statement that waits for a table holds up every later one, so it gives up soon and asks again.
#[tokio::test]
async fn lock_wait_of_migration_is_short_and_repeated() {
    let database = at_version(16).await;
    let mut connection = database.connect().await;
    let held = Writing::begin(&database, "UPDATE agents SET label = label").await;
    let migrating = start(&database);
    // Long enough for two attempts.
    for _ in 0..20 {
        let write =
            timeout(Duration::from_secs(1), sqlx::query("DELETE FROM agents").execute(&mut connection));
        write.await.expect("a write waits behind the migration").unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(!migrating.is_finished());
    held.commit().await;
    migrating.await.unwrap().unwrap();
}

#[tokio::test]
async fn migrations_at_once_take_turns() {
    let database = at_version(12).await;
    let migrating: Vec<_> = (0..4).map(|_| start(&database)).collect();
    for one in migrating {
        timeout(PATIENCE, one).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(invalid_indexes(&mut database.connect().await).await, 0);
}

const INSERT_EVENT: &str =
    "INSERT INTO events (workspace_id, type, actor_type) VALUES (gen_random_uuid(), 'registered', 'system')";

fn start(database: &Database) -> JoinHandle<Result<i64, Error>> {
    let options = database.options.clone();
    tokio::spawn(async move { schema::migrate(&options).await })
}

/// A database whose later migrations were taken back.
async fn at_version(version: u32) -> Database {
    let database = Database::create().await;
    let mut connection = database.connect().await;
    for (number, _) in files().into_iter().rev().filter(|(number, _)| *number > version) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_down = |name: &str| name.starts_with(&format!("{number:04}_")) && name.ends_with(".down.sql");
        let down = paths.find(|path| is_down(&path.file_name().unwrap().to_string_lossy())).unwrap();
        for statement in planasonix::db::statements::split(&fs::read_to_string(down).unwrap()) {
            raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = $1")
            .bind(i64::from(number))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    database
}

/// A transaction that has written and is not committed yet.
struct Writing(PgConnection);

impl Writing {
    async fn begin(database: &Database, sql: &'static str) -> Self {
        let mut connection = database.connect().await;
        raw_sql("BEGIN").execute(&mut connection).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    async fn commit(mut self) {
        raw_sql("COMMIT").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

async fn write_promptly(connection: &mut PgConnection, sql: &'static str) {
    raw_sql("SET lock_timeout = '200ms'").execute(&mut *connection).await.unwrap();
    sqlx::query(sql).execute(connection).await.unwrap();
}

/// Waits until an index is being built on `events`, and returns the process that builds it.
async fn wait_for_build(connection: &mut PgConnection) -> i32 {
    let sql = "SELECT pid FROM pg_stat_progress_create_index
               WHERE datname = current_database() AND relid = 'events'::regclass AND phase LIKE 'waiting%'";
    let waiting = async {
        loop {
            if let Some(pid) = sqlx::query_scalar(sql).fetch_optional(&mut *connection).await.unwrap() {
                return pid;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("no index is being built")
}

async fn invalid_indexes(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn indexes(connection: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname";
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}
