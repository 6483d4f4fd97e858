use chrono::{DateTime, Utc};
use planasonix_wire::{
    AgentId,
    envelope::Page,
    event::{Event, EventType},
};

use crate::{
    db::{Workspace, events::Filter},
    domain::{invalid::Checks, page::PageSize},
    http::{
        answer::Answer,
        auth::Reader,
        cursor::{self, Fingerprint},
        error::Problem,
        extract::{AgentPath, Params},
    },
};

const MOST: u32 = 100;
const FILTERS: [&str; 4] = ["agent_id", "type", "since", "until"];

/// List events
///
/// The workspace's audit trail, newest first.
#[utoipa::path(
    get, path = "/api/agents/events", operation_id = "listEvents", tag = "agents",
    security(("apiKey" = ["agents:read"])),
    params(
        ("agent_id" = Option<AgentId>, Query, description = "Only events about this agent"),
        ("type" = Option<EventType>, Query, description = "Only events of this type"),
        ("since" = Option<String>, Query, description = "Only events from this time on (RFC 3339)", format = DateTime),
        ("until" = Option<String>, Query, description = "Only events before this time (RFC 3339)", format = DateTime),
        ("limit" = Option<u32>, Query, description = "How many rows a page holds at most; 50 unless given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, min_length = 1, pattern = "^[A-Za-z0-9_-]+$", description = "`meta.page.cursor` of the page before"),
    ),
    responses((status = 200, description = "One page of events", body = Page<Event>)),
)]
pub async fn list(reader: Reader, params: Params) -> Result<Answer<Page<Event>>, Problem> {
    let (filter, size) = asked(&params)?;
    page("events", &reader.workspace, &params, filter, size).await
}

/// List an agent's events
///
/// Also those of an agent that was deregistered, while there are any.
#[utoipa::path(
    get, path = "/api/agents/{id}/events", operation_id = "listAgentEvents", tag = "agents",
    security(("apiKey" = ["agents:read"])),
    params(
        ("id" = AgentId, Path, description = "The agent"),
        ("type" = Option<EventType>, Query, description = "Only events of this type"),
        ("since" = Option<String>, Query, description = "Only events from this time on (RFC 3339)", format = DateTime),
        ("until" = Option<String>, Query, description = "Only events before this time (RFC 3339)", format = DateTime),
        ("limit" = Option<u32>, Query, description = "How many rows a page holds at most; 50 unless given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, min_length = 1, pattern = "^[A-Za-z0-9_-]+$", description = "`meta.page.cursor` of the page before"),
    ),
    responses((status = 200, description = "One page of events", body = Page<Event>)),
)]
pub async fn list_of_agent(
    reader: Reader,
    path: AgentPath,
    params: Params,
) -> Result<Answer<Page<Event>>, Problem> {
    let (filter, size) = asked(&params)?;
    let id = path.id()?;
    reader
        .workspace
        .read("check_agent", |mut rows| async move { rows.events().check_agent(id).await })
        .await?;
    page("agent-events", &reader.workspace, &params, Filter { agent: Some(id), ..filter }, size).await
}

fn asked(params: &Params) -> Result<(Filter, PageSize), Problem> {
    let mut checks = Checks::default();
    let agent = params.one(&mut checks, "agent_id").map(ToOwned::to_owned);
    let event_type = params.one(&mut checks, "type").map(ToOwned::to_owned);
    let filter = Filter {
        agent: agent.and_then(|id| checks.parsed("agent_id", &id, "malformed", "must be an agent's id")),
        event_type: event_type
            .and_then(|name| checks.parsed("type", &name, "unsupported", "must be a type of event")),
        since: time(&mut checks, params, "since"),
        until: time(&mut checks, params, "until"),
    };
    let size = params.page_size(&mut checks, MOST);
    params.one(&mut checks, "cursor");
    checks.finish()?;
    Ok((filter, size))
}

fn time(checks: &mut Checks, params: &Params, name: &str) -> Option<DateTime<Utc>> {
    let text = params.one(checks, name)?.to_owned();
    let at: DateTime<Utc> = checks.parsed(name, &text, "malformed", "must be a time in RFC 3339")?;
    let storable = (0..=253_402_300_799).contains(&at.timestamp());
    if !storable {
        checks.fail(name, "out_of_range", "must be between the years 1970 and 9999");
    }
    storable.then_some(at)
}

async fn page(
    list: &str,
    workspace: &Workspace,
    params: &Params,
    filter: Filter,
    size: PageSize,
) -> Result<Answer<Page<Event>>, Problem> {
    let mut quiet = Checks::default();
    let agent = filter.agent.map(|id| id.to_string());
    let mut filters = FILTERS.map(|name| (name, params.one(&mut quiet, name)));
    filters[0].1 = agent.as_deref();
    let fingerprint = Fingerprint::new(list, &filters);
    let cursor = params.one(&mut quiet, "cursor");
    let before = cursor.map(|cursor| cursor::decode(cursor, &fingerprint)).transpose()?;
    let filter = &filter;
    let rows = workspace
        .read("list_events", |mut rows| async move { rows.events().list(filter, before, size).await })
        .await?;
    Ok(Answer::page(rows, size, &fingerprint, |row| row.id)?)
}
