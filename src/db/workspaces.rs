//! Workspaces themselves, for whoever runs the service: the command line, never a request.

use planasonix_wire::{ApiKeyId, WorkspaceId};

use super::{Budget, Db};
use crate::domain::{Result, agent::ReenablePolicy};

/// A workspace.
pub struct WorkspaceRow {
    /// The workspace.
    pub id: WorkspaceId,
    /// Its short name, unique.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What enabling a revoked agent asks of it.
    pub reenable_policy: String,
    /// How many agents it may have; `None` is any number.
    pub max_agents: Option<i32>,
}

impl Db {
    /// Creates a workspace; `None` if the slug is taken.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn create_workspace(&self, slug: &str, name: &str) -> Result<Option<WorkspaceId>> {
        self.writes()
            .run("create_workspace", &Budget::default(), |mut connection| async move {
                let id = sqlx::query_scalar!(
                    "INSERT INTO workspaces (slug, name) VALUES ($1, $2)
                     ON CONFLICT ON CONSTRAINT workspaces_slug_key DO NOTHING RETURNING id",
                    slug,
                    name,
                )
                .fetch_optional(&mut *connection)
                .await?;
                Ok(id.map(WorkspaceId::from_uuid))
            })
            .await
    }

    /// Every workspace, oldest first.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceRow>> {
        self.reads()
            .run("workspaces", &Budget::default(), |mut connection| async move {
                let rows = sqlx::query!(
                    "SELECT id, slug, name, reenable_policy, max_agents FROM workspaces ORDER BY id"
                )
                .fetch_all(&mut *connection)
                .await?;
                Ok(rows
                    .into_iter()
                    .map(|row| WorkspaceRow {
                        id: WorkspaceId::from_uuid(row.id),
                        slug: row.slug,
                        name: row.name,
                        reenable_policy: row.reenable_policy,
                        max_agents: row.max_agents,
                    })
                    .collect())
            })
            .await
    }

    /// Finds a workspace by its slug.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn workspace_id(&self, slug: &str) -> Result<Option<WorkspaceId>> {
        self.reads()
            .run("workspace_id", &Budget::default(), |mut connection| async move {
                let id = sqlx::query_scalar!("SELECT id FROM workspaces WHERE slug = $1", slug)
                    .fetch_optional(&mut *connection)
                    .await?;
                Ok(id.map(WorkspaceId::from_uuid))
            })
            .await
    }

    /// Changes the given settings of a workspace, and counts its agents if a limit is given. Returns whether
    /// the workspace exists.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn set_workspace(
        &self,
        slug: &str,
        policy: Option<ReenablePolicy>,
        max_agents: Option<i32>,
    ) -> Result<bool> {
        self.writes()
            .transaction("set_workspace", &Budget::default(), |mut connection| async move {
                // Waits for registrations and deletions that saw the workspace without a limit; those to come
                // wait for the commit and see the limit. So none is missing in the count, and none twice.
                sqlx::query!("SELECT id FROM workspaces WHERE slug = $1 FOR UPDATE", slug)
                    .fetch_optional(&mut *connection)
                    .await?;
                let id = sqlx::query_scalar!(
                    "UPDATE workspaces SET reenable_policy = COALESCE($2, reenable_policy),
                                           max_agents = COALESCE($3, max_agents)
                     WHERE slug = $1 RETURNING id",
                    slug,
                    policy.map(ReenablePolicy::as_str),
                    max_agents,
                )
                .fetch_optional(&mut *connection)
                .await?;
                let (Some(id), Some(_)) = (id, max_agents) else { return Ok(id.is_some()) };
                sqlx::query!(
                    "WITH counted AS (DELETE FROM agent_count_changes WHERE workspace_id = $1)
                     UPDATE workspaces
                     SET agent_count = (SELECT count(*) FROM agents WHERE workspace_id = $1) WHERE id = $1",
                    id,
                )
                .execute(&mut *connection)
                .await?;
                Ok(true)
            })
            .await
    }

    /// Revokes an API key of any workspace; again changes nothing. Tells whether there is such a key.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn revoke_api_key(&self, id: ApiKeyId) -> Result<bool> {
        self.writes()
            .run("revoke_api_key", &Budget::default(), |mut connection| async move {
                let done = sqlx::query!(
                    "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE id = $1",
                    id.uuid(),
                )
                .execute(&mut *connection)
                .await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }
}
