//! A database on which heartbeats are slow, fail or hang.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

async fn execute(database: &PgConnectOptions, sql: String) {
    let mut connection = PgConnection::connect_with(database).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// Makes every change of a liveness row take this long, or fail if it is a heartbeat's.
pub async fn burden_liveness(database: &PgConnectOptions, burden: Burden) {
    let body = match burden {
        Burden::Slow(time) => format!("PERFORM pg_sleep({})", time.as_secs_f64()),
        Burden::Fails => "IF NEW.last_seen_at IS DISTINCT FROM OLD.last_seen_at THEN \
                          RAISE EXCEPTION 'no heartbeats'; END IF"
            .to_owned(),
    };
    let sql = format!(
        "CREATE FUNCTION burden() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;
         CREATE TRIGGER burden BEFORE UPDATE ON agent_liveness FOR EACH ROW EXECUTE FUNCTION burden()"
    );
    execute(database, sql).await;
}

/// What is wrong with the liveness table.
pub enum Burden {
    Slow(Duration),
    Fails,
}

/// Takes the burden away.
pub async fn unburden_liveness(database: &PgConnectOptions) {
    execute(database, "DROP TRIGGER burden ON agent_liveness; DROP FUNCTION burden()".to_owned()).await;
}

/// Makes the commit of every heartbeat take this long.
pub async fn hang_commits(database: &PgConnectOptions, time: Duration) {
    let sql = format!(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({}); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER hang AFTER UPDATE ON agent_liveness DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION hang()",
        time.as_secs_f64()
    );
    execute(database, sql).await;
}

/// Ends that, also for those under way.
pub async fn release_commits(database: &PgConnectOptions) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event = 'PgSleep';
               DROP TRIGGER hang ON agent_liveness";
    execute(database, sql.to_owned()).await;
}

/// How many flushes the server is at work on.
pub async fn running_flushes(database: &PgConnectOptions) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event = 'PgSleep' AND state <> 'idle'",
    )
    .fetch_one(&mut PgConnection::connect_with(database).await.unwrap())
    .await
    .unwrap()
}
