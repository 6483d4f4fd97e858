//! The audit trail: written in the transaction of what it describes, and never changed.

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_wire::{AgentId, ApiKeyId, EventId, WorkspaceId, event::Event};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row, postgres::PgRow};
use uuid::Uuid;

use super::{error::stored, idempotency::try_lock};
use crate::{
    domain::{Actor, Error, Result, page::PageSize},
    meter,
};

pub use planasonix_wire::event::EventType;

/// A workspace's audit trail.
pub struct Events<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) workspace: WorkspaceId,
}

/// What the audit trail is narrowed to.
#[derive(Debug, Default)]
pub struct Filter {
    /// Only entries about this agent.
    pub agent: Option<AgentId>,
    /// Only entries of this type.
    pub event_type: Option<EventType>,
    /// Only entries from this time on.
    pub since: Option<DateTime<Utc>>,
    /// Only entries before this time.
    pub until: Option<DateTime<Utc>>,
}

/// An entry to be written.
#[derive(Debug, Clone)]
pub struct Entry<'e> {
    /// The agent that it is about.
    pub agent: AgentId,
    /// What happened.
    pub event: EventType,
    /// Who caused it.
    pub actor: Actor,
    /// Why.
    pub reason: Option<&'e str>,
    /// More about it.
    pub detail: Option<Value>,
}

/// How much younger than its event an id can be at most.
const LATEST: TimeDelta = TimeDelta::seconds(10);

impl Events<'_> {
    /// Writes an entry.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn record(
        &mut self,
        agent: AgentId,
        event: EventType,
        actor: Actor,
        reason: Option<&str>,
    ) -> Result<()> {
        self.write(Entry { agent, event, actor, reason, detail: None }).await
    }

    async fn write(&mut self, entry: Entry<'_>) -> Result<()> {
        let (actor_type, actor_id) = match entry.actor {
            Actor::Key(id) => ("key", id.uuid()),
            Actor::Agent(id) => ("agent", id.uuid()),
        };
        sqlx::query!(
            "INSERT INTO events (workspace_id, agent_id, type, actor_type, actor_id, reason, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            self.workspace.uuid(),
            entry.agent.uuid(),
            entry.event.as_str(),
            actor_type,
            actor_id,
            entry.reason,
            entry.detail,
        )
        .execute(&mut *self.connection)
        .await?;
        meter::events(entry.event.as_str(), 1);
        Ok(())
    }

    /// Writes an entry that an agent can cause at will, unless there is one like it of the last minute or
    /// somebody writes it at this moment. One that is ahead of the clock holds up none.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn record_seldom(&mut self, entry: Entry<'_>) -> Result<()> {
        let (agent, event) = (entry.agent, entry.event);
        match try_lock(self.connection, &format!("{event} {agent}")).await {
            Err(Error::RequestInProgress) => return Ok(()),
            held => held?,
        }
        let lately = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM events
                              WHERE agent_id = $1 AND type = $2 AND past_time(at) > now() - interval '1 minute'
                                AND uuid_send(id) >= uuid_send(ulid_floor(now() - interval '1 minute'))
                                AND workspace_id = $3) AS "lately!""#,
            agent.uuid(),
            event.as_str(),
            self.workspace.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        if lately { Ok(()) } else { self.write(entry).await }
    }

    /// A page of entries, newest first, those before `before`, with one row of lookahead.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn list(
        &mut self,
        filter: &Filter,
        before: Option<EventId>,
        size: PageSize,
    ) -> Result<Vec<Event>> {
        list_statement(self.workspace, filter, before, size)
            .build()
            .persistent(false)
            .fetch_all(&mut *self.connection)
            .await?
            .iter()
            .map(event)
            .collect()
    }

    /// Whether there is anything to tell of an agent: it is there, or it was and has left entries.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`], and those of the database.
    pub async fn check_agent(&mut self, agent: AgentId) -> Result<()> {
        let known = sqlx::query_scalar!(
            r#"SELECT COALESCE(
                   (SELECT true FROM agents WHERE workspace_id = $2 AND uuid_send(id) = uuid_send($1)),
                   (SELECT true FROM events WHERE workspace_id = $2 AND agent_id = $1
                    ORDER BY uuid_send(id) LIMIT 1),
                   false) AS "known!""#,
            agent.uuid(),
            self.workspace.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        if known { Ok(()) } else { Err(Error::AgentNotFound) }
    }
}

/// Only indexes that begin with the workspace are in the order of `uuid_send(id)`; by `id` alone, the planner may
/// read the primary key, which holds all workspaces' events.
fn list_statement(
    workspace: WorkspaceId,
    filter: &Filter,
    before: Option<EventId>,
    size: PageSize,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(
        "SELECT id, agent_id, type, LEAST(at, now()) AS at, actor_type, actor_id, reason, detail
         FROM events WHERE workspace_id = ",
    );
    sql.push_bind(workspace.uuid());
    if let Some(agent) = filter.agent {
        sql.push(" AND agent_id = ").push_bind(agent.uuid());
    }
    if let Some(event_type) = filter.event_type {
        sql.push(" AND type = ").push_bind(event_type.as_str());
    }
    if let Some(since) = filter.since {
        // An id is as old as its event, or younger by a transaction's time: the bounds make an index range.
        sql.push(" AND at >= ").push_bind(since);
        sql.push(" AND uuid_send(id) >= uuid_send(ulid_floor(").push_bind(since).push("))");
    }
    if let Some(until) = filter.until {
        sql.push(" AND at < ").push_bind(until);
        sql.push(" AND uuid_send(id) < uuid_send(ulid_floor(").push_bind(until + LATEST).push("))");
    }
    if let Some(before) = before {
        sql.push(" AND uuid_send(id) < uuid_send(").push_bind(before.uuid()).push(")");
    }
    sql.push(" ORDER BY uuid_send(id) DESC LIMIT ").push_bind(size.with_lookahead());
    sql
}

fn event(row: &PgRow) -> Result<Event> {
    let (at, actor_id): (DateTime<Utc>, Option<Uuid>) = (row.try_get("at")?, row.try_get("actor_id")?);
    let actor = match (row.try_get("actor_type")?, actor_id) {
        ("key", Some(id)) => ApiKeyId::from_uuid(id).to_string(),
        ("agent", Some(id)) => AgentId::from_uuid(id).to_string(),
        _ => "system".to_owned(),
    };
    Ok(Event {
        id: EventId::from_uuid(row.try_get("id")?),
        agent_id: row.try_get::<Option<Uuid>, _>("agent_id")?.map(AgentId::from_uuid),
        event_type: stored("events.type", row.try_get("type")?)?,
        at: at.into(),
        actor,
        reason: row.try_get("reason")?,
        detail: row.try_get::<Option<Value>, _>("detail")?,
    })
}
