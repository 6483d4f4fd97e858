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

/// Rows that a search reads of its workspace's list before it asks the search index. A text or tag that many
/// agents have fills a page from these.
const WALKED_ROWS: i64 = 512;
/// The shortest part of a label that `agent_search_keys` has a key for, in characters.
const MIN_KEY_CHARS: usize = 3;

const COLUMNS: &str = "a.id, a.label, a.platform, a.version, a.status";

/// The list's statement for these filters.
///
/// Only indexes that begin with the workspace match it: `uuid_send(id)` instead of `id` keeps the planner from the
/// primary key. What other workspaces hold changes neither the rows it reads nor, for a search, its plan, which
/// statistics over all labels or tags would: the estimate for `strpos` is constant, and that for
/// `agent_search_keys` depends on keys of this workspace.
pub fn list_statement(
    workspace: WorkspaceId,
    filter: &Filter,
    after: Option<AgentId>,
    size: PageSize,
) -> QueryBuilder<Postgres> {
    let list = List { workspace, filter, after, limit: size.with_lookahead() };
    if list.has_keys() { list.search() } else { list.walk() }
}

struct List<'f> {
    workspace: WorkspaceId,
    filter: &'f Filter,
    after: Option<AgentId>,
    limit: i64,
}

impl List<'_> {
    /// Whether there are keys to search by. Without any, the search index would be read from end to end.
    fn has_keys(&self) -> bool {
        let label = self.filter.label.as_deref().map(label_key);
        !self.filter.tags.is_empty() || label.is_some_and(|label| label.chars().count() >= MIN_KEY_CHARS)
    }

    /// Reads the workspace's list in its order until the page is full.
    fn walk(&self) -> QueryBuilder<Postgres> {
        // No join: a merge join would read the other table from its beginning for each page.
        let mut sql = QueryBuilder::new(format!(
            "SELECT {COLUMNS}, (SELECT past_time(last_seen_at) FROM agent_liveness WHERE agent_id = a.id) AS last_seen_at,
                    now() AS now
             FROM agents a WHERE "
        ));
        self.push_plain_filters(&mut sql);
        sql.push(" AND ");
        self.push_search_filters(&mut sql);
        self.push_after(&mut sql);
        self.push_page(&mut sql);
        sql
    }

    /// Reads the next `WALKED_ROWS` of the list. If these do not fill the page, finds the rest by the search index.
    /// The choice is made by what is there and not by an estimate: multiplying the frequencies of keys that occur
    /// together makes a frequent text look rare.
    fn search(&self) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("WITH walked AS MATERIALIZED (SELECT {COLUMNS}, "));
        self.push_search_filters(&mut sql);
        sql.push(" AS matches FROM agents a WHERE ");
        self.push_plain_filters(&mut sql);
        self.push_after(&mut sql);
        sql.push(" ORDER BY uuid_send(a.id) LIMIT ").push_bind(WALKED_ROWS);
        sql.push(format!("), near AS MATERIALIZED (SELECT {COLUMNS} FROM walked a WHERE matches"));
        self.push_page(&mut sql);
        sql.push(format!("), far AS MATERIALIZED (SELECT {COLUMNS} FROM agents a WHERE "));
        self.push_plain_filters(&mut sql);
        sql.push(" AND agent_search_keys(a.workspace_id, a.label_key, a.tags) @> agent_search_keys(");
        sql.push_bind(self.workspace.uuid()).push(", ");
        sql.push_bind(self.filter.label.as_deref().map(label_key).unwrap_or_default()).push(", ");
        sql.push_bind(self.filter.tags.clone()).push(") AND ");
        self.push_search_filters(&mut sql);
        sql.push(
            " AND uuid_send(a.id) > (SELECT uuid_send(id) FROM walked ORDER BY id DESC LIMIT 1)
              AND (SELECT count(*) FROM walked) = ",
        );
        sql.push_bind(WALKED_ROWS).push(" AND (SELECT count(*) FROM near) < ").push_bind(self.limit);
        self.push_page(&mut sql);
        sql.push(format!(
            ") SELECT {COLUMNS}, (SELECT past_time(last_seen_at) FROM agent_liveness WHERE agent_id = a.id) AS last_seen_at,
                    now() AS now
               FROM (SELECT * FROM near UNION ALL SELECT * FROM far) a"
        ));
        self.push_page(&mut sql);
        sql
    }

    fn push_plain_filters(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("a.workspace_id = ").push_bind(self.workspace.uuid());
        if let Some(status) = self.filter.status {
            sql.push(" AND a.status = ").push_bind(status.as_str());
        }
        if let Some(platform) = self.filter.platform {
            sql.push(" AND a.platform = ").push_bind(platform.as_str());
        }
    }

    fn push_search_filters(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("true");
        if !self.filter.tags.is_empty() {
            sql.push(" AND a.tags @> ").push_bind(self.filter.tags.clone());
        }
        if let Some(label) = &self.filter.label {
            sql.push(" AND strpos(a.label_key, ").push_bind(label_key(label)).push(") > 0");
        }
    }

    fn push_after(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(after) = self.after {
            sql.push(" AND uuid_send(a.id) > uuid_send(").push_bind(after.uuid()).push(")");
        }
    }

    fn push_page(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push(" ORDER BY uuid_send(a.id) LIMIT ").push_bind(self.limit);
    }
}

fn summary(row: &PgRow) -> Result<AgentSummary> {
    let id = AgentId::from_uuid(row.try_get("id")?);
    let last_seen_at: Option<DateTime<Utc>> = row.try_get("last_seen_at")?;
    let now: DateTime<Utc> = row.try_get("now")?;
    Ok(AgentSummary {
        id,
        label: row.try_get("label")?,
        platform: stored("agents.platform", row.try_get("platform")?)?,
        version: row.try_get("version")?,
        status: stored("agents.status", row.try_get("status")?)?,
        last_seen_at: last_seen_at.map(Timestamp::from),
        created_at: id.created_at().min(now.into()),
    })
}
