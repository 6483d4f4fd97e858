//! Locks that another session of the database holds, and who waits for one.

use std::time::Duration;

use planasonix_wire::AgentId;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::sleep;

/// A lock that another session holds until [`Held::let_go`].
pub struct Held(PgConnection);

impl Held {
    /// An agent's liveness row, as a slow revocation would hold it.
    pub async fn agent(database: &PgConnectOptions, agent: AgentId) -> Self {
        let mut held = Self::after(database, "BEGIN").await;
        sqlx::query("SELECT FROM agent_liveness WHERE agent_id = $1 FOR UPDATE")
            .bind(agent.uuid())
            .execute(&mut held.0)
            .await
            .unwrap();
        held
    }

    /// Holds back every flush, so that all heartbeats that arrive meanwhile are stored by one.
    pub async fn flushes(database: &PgConnectOptions) -> Self {
        Self::after(database, "BEGIN; LOCK TABLE agent_liveness IN SHARE MODE").await
    }

    /// Holds back every registration before its row is written.
    pub async fn registrations(database: &PgConnectOptions) -> Self {
        Self::after(database, "BEGIN; LOCK TABLE agents IN SHARE MODE").await
    }

    /// The advisory lock of the task that ages heartbeats, so that no replica gets it.
    pub async fn ageing(database: &PgConnectOptions) -> Self {
        Self::after(database, "SELECT pg_advisory_lock(hashtext('close_silent_runs'))").await
    }

    /// Holds back every check of the schema's version.
    pub async fn schema_version(database: &PgConnectOptions) -> Self {
        Self::after(database, "BEGIN; LOCK TABLE schema_support IN ACCESS EXCLUSIVE MODE").await
    }

    /// Holds back migrations before their first statement.
    pub async fn migrations(database: &PgConnectOptions) -> Self {
        Self::after(database, "BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").await
    }

    /// The one row that the marks are written to.
    pub async fn marks(database: &PgConnectOptions) -> Self {
        Self::after(database, "BEGIN; SELECT FROM control_plane FOR UPDATE").await
    }

    async fn after(database: &PgConnectOptions, sql: &'static str) -> Self {
        let mut connection = PgConnection::connect_with(database).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    pub async fn let_go(self) {
        self.0.close().await.unwrap();
    }
}

/// How many sessions of this database wait for a lock.
pub async fn waiting_for_a_lock(database: &PgConnectOptions) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_one(&mut PgConnection::connect_with(database).await.unwrap())
    .await
    .unwrap()
}

/// Waits until this many sessions wait for a lock.
pub async fn wait_for_lock(database: &PgConnectOptions, sessions: i64) {
    while waiting_for_a_lock(database).await < sessions {
        sleep(Duration::from_millis(10)).await;
    }
}
