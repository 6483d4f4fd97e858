//! What the planner would do, on a database that is large enough to ask.

use planasonix::db::agents::{Filter, list_statement};
use planasonix::domain::page::PageSize;
use planasonix_wire::{AgentId, WorkspaceId};
use sqlx::{AssertSqlSafe, Execute};

use super::App;

impl App {
    /// Fills workspaces with many agents each: mostly active on Linux and in production, labels all different.
    pub async fn populate(&self, workspaces: &[WorkspaceId]) {
        let mut connection = self.database.connect().await;
        let filled = "WITH agent AS (
                INSERT INTO agents (id, workspace_id, label, label_key, platform, tags, status, revoked_at)
                SELECT new_ulid(now() + i * interval '1 ms'), $1, label, label,
                       CASE WHEN i % 450 = 0 THEN 'windows' ELSE 'linux' END,
                       CASE WHEN i % 350 = 0 THEN '{canary,eu}' ELSE '{production}' END::text[],
                       CASE WHEN i % 500 = 0 THEN 'revoked' WHEN i % 400 = 0 THEN 'pending' ELSE 'active' END,
                       CASE WHEN i % 500 = 0 THEN now() END
                FROM generate_series(1, 5000) AS i, md5($1::text || i) AS label
                RETURNING id, workspace_id
             )
             INSERT INTO agent_liveness (agent_id, workspace_id) SELECT id, workspace_id FROM agent";
        for workspace in workspaces {
            sqlx::query(filled).bind(workspace.uuid()).execute(&mut connection).await.unwrap();
        }
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
    }

    /// The plan of a list.
    pub async fn plan(&self, workspace: WorkspaceId, filter: &Filter, after: Option<AgentId>) -> String {
        let mut statement = list_statement(workspace, filter, after, PageSize::DEFAULT);
        let arguments = statement.build().take_arguments().unwrap().unwrap();
        let explain = format!("EXPLAIN {}", statement.sql().as_str());
        let lines: Vec<String> = sqlx::query_scalar_with(AssertSqlSafe(explain), arguments)
            .fetch_all(&mut self.database.connect().await)
            .await
            .unwrap();
        lines.join("\n")
    }

    /// The ids that a search must find, in the order of the list, by comparing every row of the workspace.
    pub async fn search_by_reading_all(&self, workspace: WorkspaceId, query: &str) -> Vec<String> {
        let (mut label, mut tags) = (String::new(), Vec::new());
        for (name, value) in query.split('&').map(|filter| filter.split_once('=').unwrap()) {
            match name {
                "label" => label = value.to_owned(),
                _ => tags.push(value.to_owned()),
            }
        }
        let sql =
            "SELECT id FROM agents WHERE workspace_id = $1 AND position($2 in label_key) > 0 AND tags @> $3
                   ORDER BY id";
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar(sql)
            .bind(workspace.uuid())
            .bind(label)
            .bind(tags)
            .fetch_all(&mut self.database.connect().await)
            .await
            .unwrap();
        ids.into_iter().map(|id| AgentId::from_uuid(id).to_string()).collect()
    }
}
