//! A workspace's API keys. A key that was deleted or revoked stays as a row, so that its holder is told.

use chrono::{DateTime, Utc};
use planasonix_wire::{ApiKeyId, WorkspaceId, api_key::ApiKey as Shown, json::Timestamp, token::Kind};
use sqlx::PgConnection;

use super::error::stored;
use crate::domain::{
    Error, Result, Scope,
    api_key::NewKey,
    credential::{ApiKey, Plain},
    page::PageSize,
};

/// A workspace's API keys.
pub struct ApiKeys<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) workspace: WorkspaceId,
}

impl ApiKeys<'_> {
    /// An id for a new key, from the database's clock.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn next_id(&mut self) -> Result<ApiKeyId> {
        let id =
            sqlx::query_scalar!(r#"SELECT new_ulid() AS "id!""#).fetch_one(&mut *self.connection).await?;
        Ok(ApiKeyId::from_uuid(id))
    }

    /// Stores a key with its Argon2id hash, a PHC string.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn insert(
        &mut self,
        key: &Plain<ApiKey>,
        argon2: &str,
        new: &NewKey,
    ) -> Result<Option<Timestamp>> {
        let scopes: Vec<String> = new.scopes.iter().map(ToString::to_string).collect();
        let expires_at = sqlx::query_scalar!(
            "INSERT INTO api_keys (id, workspace_id, name, scopes, argon2, sha256_check, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))
             RETURNING expires_at",
            uuid::Uuid::from_u128(key.public_id().0),
            self.workspace.uuid(),
            new.name,
            &scopes,
            argon2,
            &key.hashed().check(),
            new.expires_in_days,
        )
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(expires_at.map(Timestamp::from))
    }

    /// A page of keys in creation order, those after `after`, with one row of lookahead.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn list(&mut self, after: Option<ApiKeyId>, size: PageSize) -> Result<Vec<Shown>> {
        let after = after.map_or(uuid::Uuid::nil(), ApiKeyId::uuid);
        // By `uuid_send(id)`: the primary key holds all workspaces' keys, and no index but the workspace's own is
        // in this order.
        let rows = sqlx::query_as!(
            KeyRow,
            r#"SELECT id, name, scopes, past_time(last_used_at) AS last_used_at, expires_at, now() AS "now!"
             FROM api_keys
             WHERE workspace_id = $1 AND uuid_send(id) > uuid_send($2) AND revoked_at IS NULL
             ORDER BY uuid_send(id) LIMIT $3"#,
            self.workspace.uuid(),
            after,
            size.with_lookahead(),
        )
        .fetch_all(&mut *self.connection)
        .await?;
        rows.into_iter().map(KeyRow::shown).collect()
    }

    /// One key.
    ///
    /// # Errors
    /// [`Error::ApiKeyNotFound`], and those of the database.
    pub async fn get(&mut self, id: ApiKeyId) -> Result<Shown> {
        let row = sqlx::query_as!(
            KeyRow,
            r#"SELECT id, name, scopes, past_time(last_used_at) AS last_used_at, expires_at, now() AS "now!"
             FROM api_keys
             WHERE workspace_id = $1 AND uuid_send(id) = uuid_send($2) AND revoked_at IS NULL"#,
            self.workspace.uuid(),
            id.uuid(),
        )
        .fetch_optional(&mut *self.connection)
        .await?;
        row.ok_or(Error::ApiKeyNotFound)?.shown()
    }

    /// Gives a key another secret; the old one is dead. Tells when.
    ///
    /// # Errors
    /// [`Error::ApiKeyNotFound`], and those of the database.
    pub async fn replace_secret(&mut self, key: &Plain<ApiKey>, argon2: &str) -> Result<Timestamp> {
        let at = sqlx::query_scalar!(
            r#"UPDATE api_keys SET argon2 = $3, sha256_check = $4
               WHERE workspace_id = $2 AND uuid_send(id) = uuid_send($1) AND revoked_at IS NULL
               RETURNING now() AS "now!""#,
            uuid::Uuid::from_u128(key.public_id().0),
            self.workspace.uuid(),
            argon2,
            &key.hashed().check(),
        )
        .fetch_optional(&mut *self.connection)
        .await?;
        at.map(Timestamp::from).ok_or(Error::ApiKeyNotFound)
    }

    /// Deletes a key: it is gone from the lists, and the very next request with it is refused. Of two
    /// administrators who delete each other's key at once, one is told that it is the last.
    ///
    /// # Errors
    /// [`Error::ApiKeyNotFound`], [`Error::LastAdminKey`], and those of the database.
    pub async fn delete(&mut self, id: ApiKeyId) -> Result<()> {
        sqlx::query!("SELECT id FROM workspaces WHERE id = $1 FOR NO KEY UPDATE", self.workspace.uuid())
            .fetch_one(&mut *self.connection)
            .await?;
        let key = self.get(id).await?;
        if key.scopes.contains(&Scope::AdminOrganization) && !self.has_other_admin(id).await? {
            return Err(Error::LastAdminKey);
        }
        sqlx::query!(
            "UPDATE api_keys SET revoked_at = now()
             WHERE workspace_id = $2 AND uuid_send(id) = uuid_send($1)",
            id.uuid(),
            self.workspace.uuid(),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn has_other_admin(&mut self, id: ApiKeyId) -> Result<bool> {
        let there = sqlx::query_scalar!(
            // The order keeps the planner from reading the table until a row of this workspace turns up.
            r#"SELECT COALESCE(
                   (SELECT true FROM api_keys
                    WHERE workspace_id = $1 AND id <> $2 AND 'admin:organization' = ANY(scopes)
                      AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
                    ORDER BY uuid_send(id) LIMIT 1), false) AS "there!""#,
            self.workspace.uuid(),
            id.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(there)
    }
}

struct KeyRow {
    id: uuid::Uuid,
    name: String,
    scopes: Vec<String>,
    last_used_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl KeyRow {
    fn shown(self) -> Result<Shown> {
        let id = ApiKeyId::from_uuid(self.id);
        let scopes = self.scopes.iter().map(|scope| stored("api_keys.scopes", scope));
        Ok(Shown {
            id,
            name: self.name,
            prefix: Kind::ApiKey.public_part(id.ulid()),
            scopes: scopes.collect::<Result<_>>()?,
            created_at: id.created_at().min(self.now.into()),
            last_used_at: self.last_used_at.map(Timestamp::from),
            expires_at: self.expires_at.map(Timestamp::from),
        })
    }
}
