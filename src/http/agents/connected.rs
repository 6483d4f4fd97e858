use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use planasonix_wire::{
    AgentId,
    agent::ConnectedAgent,
    envelope::{Meta, Page, PageMeta},
};

use crate::{
    db::Workspace,
    domain::{Error, Result, invalid::Checks, presence::Rhythm},
    http::{
        App,
        answer::Answer,
        auth::Reader,
        cursor::{self, Fingerprint},
        error::Problem,
        extract::Params,
    },
};

const MOST: u32 = 1_000;
/// Rows fetched at once while the whole view is streamed.
const CHUNK: usize = 1_000;

/// List currently connected agents
///
/// Agents whose last heartbeat is younger than the window (two minutes unless configured). Without `limit`
/// and `cursor` the answer holds every connected agent.
#[utoipa::path(
    get, path = "/api/agents/connected", operation_id = "listConnectedAgents", tag = "agents",
    security(("apiKey" = ["agents:read"])),
    params(
        ("limit" = Option<u32>, Query, description = "How many rows a page holds at most", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, min_length = 1, pattern = "^[A-Za-z0-9_-]+$", description = "`meta.page.cursor` of the page before"),
    ),
    responses((status = 200, description = "The agents that are connected now", body = Page<ConnectedAgent>)),
)]
pub async fn connected(reader: Reader, State(app): State<App>, params: Params) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let cursor = params.one(&mut checks, "cursor");
    let whole = cursor.is_none() && params.one(&mut checks, "limit").is_none();
    let size = params.page_size(&mut checks, MOST);
    checks.finish()?;
    if whole {
        return Ok(stream_all(reader.workspace, app.rhythm).await?);
    }
    let fingerprint = Fingerprint::new("connected", &[]);
    let after = cursor.map(|cursor| cursor::decode(cursor, &fingerprint)).transpose()?;
    let rows = fetch(&reader.workspace, app.rhythm, after, size.get() as usize + 1).await?;
    Ok(Answer::page(rows, size, &fingerprint, |row| row.id)?.into_response())
}

async fn fetch(
    workspace: &Workspace,
    rhythm: Rhythm,
    after: Option<AgentId>,
    most: usize,
) -> Result<Vec<ConnectedAgent>> {
    workspace
        .read("connected", |mut rows| async move {
            rows.agents().connected(rhythm.window, after, i64::try_from(most).unwrap_or(i64::MAX)).await
        })
        .await
}

/// Streams the whole view chunk by chunk, in constant memory and without holding a connection meanwhile.
/// The first chunk is fetched before the answer starts, so a database that is away is still told as such;
/// if it goes away later, the answer breaks off.
async fn stream_all(workspace: Workspace, rhythm: Rhythm) -> Result<Response> {
    let first = fetch(&workspace, rhythm, None, CHUNK).await?;
    let chunks = stream::try_unfold(Some(first), move |rows| {
        let workspace = workspace.fresh();
        async move {
            let Some(rows) = rows else { return Ok(None) };
            let after = rows.last().map(|row| row.id);
            let next = if rows.len() == CHUNK {
                let next = fetch(&workspace, rhythm, after, CHUNK).await?;
                if next.is_empty() { None } else { Some(next) }
            } else {
                None
            };
            let text = text(&rows, next.is_some())?;
            Ok::<_, Error>(Some((text, next)))
        }
    });
    let opening = stream::once(async { Ok(Bytes::from_static(br#"{"data":["#)) });
    let closing = stream::once(async { closing() });
    let body = Body::from_stream(opening.chain(chunks).chain(closing));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// Rows as the elements of a JSON list, with a comma behind them if more follow.
fn text(rows: &[ConnectedAgent], more: bool) -> Result<Bytes> {
    let list = serde_json::to_string(rows).map_err(|error| Error::Internal(error.into()))?;
    let mut text = list.trim_start_matches('[').trim_end_matches(']').to_owned();
    if more {
        text.push(',');
    }
    Ok(text.into())
}

fn closing() -> Result<Bytes> {
    let meta = Meta { page: PageMeta { limit: None, cursor: None } };
    let meta = serde_json::to_string(&meta).map_err(|error| Error::Internal(error.into()))?;
    Ok(format!(r#"],"meta":{meta}}}"#).into())
}
