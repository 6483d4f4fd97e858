//! A page of agents, narrowed by filters.

use chrono::{DateTime, Utc};
use planasonix_wire::{AgentId, WorkspaceId, agent::AgentSummary, json::Timestamp};
use sqlx::{Postgres, QueryBuilder, Row, postgres::PgRow};

use super::{Agents, stored};
use crate::domain::{
    Result,
    agent::{Platform, Status, label_key},
    page::PageSize,
};

/// What a list is narrowed to.
#[derive(Debug, Default)]
pub struct Filter {
    /// Only those in this state.
    pub status: Option<Status>,
    /// Only those whose host runs this.
    pub platform: Option<Platform>,
    /// Only those that have all of these tags.
    pub tags: Vec<String>,
    /// Only those whose label holds this, whatever the case.
    pub label: Option<String>,
}

impl Agents<'_> {
    /// A page of agents in creation order, those after `after`, with one row of lookahead.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn list(
        &mut self,
        filter: &Filter,
        after: Option<AgentId>,
        size: PageSize,
    ) -> Result<Vec<AgentSummary>> {
        // Built for the filters given, and planned for their values: with one statement for all, the
        // planner would have to forgo the indexes that only some of them use.
        list_statement(self.workspace, filter, after, size)
            .build()
            .persistent(false)
            .fetch_all(&mut *self.connection)
            .await?
            .iter()
            .map(summary)
            .collect()
    }
}

/// The list's statement for the filters given. Public for the test that asks the planner about it.
pub fn list_statement(
    workspace: WorkspaceId,
    filter: &Filter,
    after: Option<AgentId>,
    size: PageSize,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(
        // No join: a merge join would read the other table from its beginning for each page.
        "SELECT a.id, a.label, a.platform, a.version, a.status,
                (SELECT last_seen_at FROM agent_liveness WHERE agent_id = a.id) AS last_seen_at
         FROM agents a WHERE a.workspace_id = ",
    );
    sql.push_bind(workspace.uuid());
    if let Some(status) = filter.status {
        sql.push(" AND a.status = ").push_bind(status.as_str());
    }
    if let Some(platform) = filter.platform {
        sql.push(" AND a.platform = ").push_bind(platform.as_str());
    }
    if !filter.tags.is_empty() {
        sql.push(" AND a.tags @> ").push_bind(filter.tags.clone());
    }
    if let Some(label) = &filter.label {
        sql.push(" AND a.label_key LIKE ").push_bind(substring_pattern(label));
    }
    if let Some(after) = after {
        sql.push(" AND a.id > ").push_bind(after.uuid());
    }
    sql.push(" ORDER BY a.id LIMIT ").push_bind(size.with_lookahead());
    sql
}

/// The LIKE pattern for "holds this text", with `%`, `_` and `\` standing for themselves.
fn substring_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in label_key(text).chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

fn summary(row: &PgRow) -> Result<AgentSummary> {
    let id = AgentId::from_uuid(row.try_get("id")?);
    let last_seen_at: Option<DateTime<Utc>> = row.try_get("last_seen_at")?;
    Ok(AgentSummary {
        id,
        label: row.try_get("label")?,
        platform: stored("agents.platform", row.try_get("platform")?)?,
        version: row.try_get("version")?,
        status: stored("agents.status", row.try_get("status")?)?,
        last_seen_at: last_seen_at.map(Timestamp::from),
        created_at: id.created_at(),
    })
}
