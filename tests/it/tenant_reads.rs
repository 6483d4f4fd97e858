//! No statement of an operator reads another workspace's rows, so its time says nothing about them.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use planasonix::{
    db::{
        Workspace,
        agents::Filter,
        events::{EventType, Filter as EventFilter},
    },
    domain::{
        Error, Result,
        agent::{Platform, Status},
        page::PageSize,
    },
};
use planasonix_wire::{AgentId, ApiKeyId, EventId};
use uuid::Uuid;

use crate::support::{
    database::Database,
    reads::{Filled, Reads, fill, fill_many, stop_autovacuum},
};

const MANY: i64 = 50_000;
const FEW: i64 = 10;
const TABLES: [&str; 4] = ["agents", "agent_liveness", "events", "api_keys"];
/// Connections alternate between plans for the values and plans for any values.
const PLAN_MODES: [&str; 2] = ["force_custom_plan", "force_generic_plan"];

/// Rows of a page, with the one of lookahead.
const PAGE: i64 = 51;

/// What one or a few statements read.
struct Case {
    name: String,
    reads: Reads,
}

#[tokio::test]
async fn statements_with_true_statistics_read_no_foreign_rows() {
    let database = Database::create().await;
    let mut connection = database.connect().await;
    stop_autovacuum(&mut connection).await;
    let many = fill_many(&mut connection, "many", MANY).await;
    let few = fill(&mut connection, "few", FEW).await;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
    check(&database, &many, &few).await;
}

/// As the planner sees it, one workspace has all rows, so that reading all is as good as reading its own.
#[tokio::test]
async fn statements_with_old_statistics_read_no_foreign_rows() {
    let database = Database::create().await;
    let mut connection = database.connect().await;
    stop_autovacuum(&mut connection).await;
    let many = fill_many(&mut connection, "many", MANY).await;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
    let few = fill(&mut connection, "few", FEW).await;
    check(&database, &many, &few).await;
}

async fn check(database: &Database, many: &Filled, few: &Filled) {
    let mut problems = Vec::new();
    for (own, foreign) in [(few, many), (many, few)] {
        for Case { name, reads } in cases(database, own, foreign).await {
            let too_many = reads.iter().any(|(read, count)| *count > most_reads(read, own));
            if too_many {
                problems.push(format!("{name}, with {} agents of its own: {reads:?}", own.agents));
            }
        }
    }
    let (absent_agent, absent_key) = (AgentId::from_uuid(Uuid::max()), ApiKeyId::from_uuid(Uuid::max()));
    let absent = foreign_ids(database, few, absent_agent, absent_key).await;
    let foreign = foreign_ids(database, few, many.agent, api_key_of(database, many).await).await;
    for (absent, foreign) in absent.into_iter().zip(foreign) {
        if absent.reads != foreign.reads {
            let (name, absent, foreign) = (foreign.name, absent.reads, foreign.reads);
            problems.push(format!("{name} with a foreign id: {foreign:?}, with none: {absent:?}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// How much one statement may read of an index or a table.
fn most_reads(read: &str, own: &Filled) -> i64 {
    if TABLES.contains(&read) {
        0
    } else if read.ends_with("_pkey") {
        // They hold all workspaces' rows. A row of the answer may be looked up there.
        2 * PAGE
    } else {
        // Led by the workspace. The trail has two rows for each agent, and some statements are one of several.
        4 * own.agents
    }
}

/// Every statement by which an operator reads, with each filter and with several.
async fn cases(database: &Database, own: &Filled, foreign: &Filled) -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in PLAN_MODES {
        for after in [None, Some(own.agent)] {
            for number in 0..AGENT_FILTERS {
                let name = format!("{mode}: agents after {after:?}: {:?}", agent_filter(number));
                let list = move |workspace: Workspace| list_agents(workspace, number, after);
                push(&mut cases, name, database.reads_of(own.workspace, mode, list).await);
            }
            let list = move |workspace: Workspace| connected(workspace, after);
            push(
                &mut cases,
                format!("{mode}: connected"),
                database.reads_of(own.workspace, mode, list).await,
            );
        }
        for number in 0..EVENT_FILTERS {
            let (own_agent, other) = (own.agent, foreign.agent);
            let name = format!("{mode}: events: {:?}", event_filter(number, own_agent, other));
            let list = move |workspace: Workspace| list_events(workspace, number, own_agent, other);
            push(&mut cases, name, database.reads_of(own.workspace, mode, list).await);
        }
        let agent = own.agent;
        let read = move |workspace: Workspace| single_agent(workspace, agent);
        push(&mut cases, format!("{mode}: one agent"), database.reads_of(own.workspace, mode, read).await);
        let (result, reads) = database.reads_of(own.workspace, mode, api_keys).await;
        push(&mut cases, format!("{mode}: api keys"), (result, reads));
    }
    cases
}

fn push(cases: &mut Vec<Case>, name: String, (result, reads): (Result<()>, Reads)) {
    result.unwrap();
    cases.push(Case { name, reads });
}

const AGENT_FILTERS: usize = 13;

fn agent_filter(number: usize) -> Filter {
    let label = |label: &str| Filter { label: Some(label.to_owned()), ..Filter::default() };
    let tags =
        |tags: &[&str]| Filter { tags: tags.iter().map(ToString::to_string).collect(), ..Filter::default() };
    match number {
        0 => Filter::default(),
        1 => Filter { status: Some(Status::Active), ..Filter::default() },
        2 => Filter { status: Some(Status::Pending), ..Filter::default() },
        3 => Filter { platform: Some(Platform::Windows), ..Filter::default() },
        4 => label("needle"),
        5 => label("many-needle-"),
        6 => label("few-"),
        7 => label("zzz"),
        8 => label("zq"),
        9 => tags(&["production"]),
        10 => tags(&["canary", "eu"]),
        11 => Filter { status: Some(Status::Revoked), platform: Some(Platform::Linux), ..label("abc") },
        _ => Filter { status: Some(Status::Active), label: Some("n".to_owned()), ..tags(&["absent"]) },
    }
}

async fn list_agents(workspace: Workspace, number: usize, after: Option<AgentId>) -> Result<()> {
    let filter = &agent_filter(number);
    let list = workspace
        .read("list", |mut rows| async move { rows.agents().list(filter, after, PageSize::DEFAULT).await });
    list.await.map(drop)
}

async fn connected(workspace: Workspace, after: Option<AgentId>) -> Result<()> {
    let list = workspace.read("connected", |mut rows| async move {
        rows.agents().connected(Duration::from_hours(1), after, 51).await
    });
    list.await.map(drop)
}

const EVENT_FILTERS: usize = 8;

fn event_filter(number: usize, own: AgentId, foreign: AgentId) -> EventFilter {
    let (hour_ago, ahead) = (Utc::now() - TimeDelta::hours(1), Utc::now() + TimeDelta::hours(1));
    let none = EventFilter::default();
    match number {
        0 => none,
        1 => EventFilter { agent: Some(own), ..none },
        2 => EventFilter { agent: Some(foreign), ..none },
        3 => EventFilter { event_type: Some(EventType::Connected), ..none },
        4 => EventFilter { event_type: Some(EventType::Revoked), ..none },
        5 => EventFilter { since: Some(hour_ago), until: Some(ahead), ..none },
        6 => EventFilter { until: Some(hour_ago), ..none },
        _ => EventFilter {
            agent: Some(own),
            event_type: Some(EventType::Revoked),
            since: Some(hour_ago),
            until: None,
        },
    }
}

async fn list_events(workspace: Workspace, number: usize, own: AgentId, foreign: AgentId) -> Result<()> {
    let filter = &event_filter(number, own, foreign);
    for before in [None, Some(EventId::from_uuid(Uuid::max()))] {
        let list = workspace.read("events", |mut rows| async move {
            rows.events().list(filter, before, PageSize::DEFAULT).await
        });
        list.await?;
    }
    Ok(())
}

async fn single_agent(workspace: Workspace, agent: AgentId) -> Result<()> {
    let window = Duration::from_hours(1);
    let read = workspace.write("one", |mut rows| async move {
        rows.agents().get(agent).await?;
        rows.agents().health(agent, window).await?;
        rows.agents().lock(agent).await?;
        rows.events().check_agent(agent).await
    });
    read.await
}

async fn api_keys(workspace: Workspace) -> Result<()> {
    let read = workspace.write("keys", |mut rows| async move {
        let keys = rows.api_keys().list(None, PageSize::DEFAULT).await?;
        rows.api_keys().list(Some(keys[0].id), PageSize::DEFAULT).await?;
        rows.api_keys().get(keys[0].id).await?;
        match rows.api_keys().delete(keys[0].id).await {
            Err(Error::LastAdminKey) => Ok(()),
            result => result,
        }
    });
    read.await
}

async fn api_key_of(database: &Database, filled: &Filled) -> ApiKeyId {
    let key = sqlx::query_scalar("SELECT id FROM api_keys WHERE workspace_id = $1 LIMIT 1")
        .bind(filled.workspace.uuid())
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    ApiKeyId::from_uuid(key)
}

/// The statements that take an id, with ids that are not the workspace's. Planning alone reads the ends of an index.
async fn foreign_ids(database: &Database, own: &Filled, agent: AgentId, key: ApiKeyId) -> Vec<Case> {
    let mut all = Vec::new();
    for mode in PLAN_MODES {
        for number in 0..5 {
            let read = move |workspace: Workspace| async move {
                let read = workspace.write("foreign", |mut rows| async move {
                    match number {
                        0 => rows.agents().get(agent).await.map(drop),
                        1 => rows.agents().health(agent, Duration::from_hours(1)).await.map(drop),
                        2 => rows.agents().lock(agent).await.map(drop),
                        3 => rows.events().check_agent(agent).await,
                        _ => rows.api_keys().get(key).await.map(drop),
                    }
                });
                read.await
            };
            let (result, reads) = database.reads_of(own.workspace, mode, read).await;
            assert!(matches!(result, Err(Error::AgentNotFound | Error::ApiKeyNotFound)), "{number}");
            all.push(Case { name: format!("{mode}: statement {number}"), reads });
        }
    }
    all
}
