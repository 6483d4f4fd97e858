use std::future::ready;

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
        response_budget::Streamed,
    },
};

const MOST: u32 = 1_000;
/// Upper bound of a chunk's rows. A row has at most 1.7 KB (a label of 255 characters, each escaped as six bytes).
const CHUNK_BYTES: usize = 63 * 1024;
/// Most rows of one fetch: 400 of 140 bytes, as they usually are, make one chunk.
const MAX_ROWS: usize = 400;
const OPENING: &[u8] = br#"{"data":["#;

/// List currently connected agents
///
/// Agents whose last heartbeat is younger than the window (two minutes unless configured). Without `limit`
/// and `cursor` the answer holds every connected agent. A key may have 8 such streams open at once, and its
/// workspace 16; the next one is refused with 429 until an earlier one was read.
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
    let (workspace, most) = (workspace.clone(), i64::try_from(most).unwrap_or(i64::MAX));
    // On a task of its own, since a body is fetched by the connection, whose end must not cut a statement.
    let fetching = tokio::spawn(async move {
        workspace
            .read(
                "connected",
                |mut rows| async move { rows.agents().connected(rhythm.window, after, most).await },
            )
            .await
    });
    fetching.await.map_err(|error| Error::Internal(error.into()))?
}

/// Streams the whole view. The first chunk is made before the answer starts, so a database that is away is still
/// an error in the envelope; if it goes away later, the answer breaks off.
async fn stream_all(workspace: Workspace, rhythm: Rhythm) -> Result<Response> {
    let mut view = WholeView { workspace, rhythm, after: None, limit: MAX_ROWS, position: Position::Start };
    let first = view.next_chunk().await?.unwrap_or_default();
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    if view.position == Position::End {
        return Ok((json, first).into_response());
    }
    let rest = stream::try_unfold(view, |mut view| async move {
        let chunk = view.next_chunk().await?;
        Ok::<_, Error>(chunk.map(|chunk| (chunk, view)))
    });
    let body = Body::from_stream(stream::once(ready(Ok(first))).chain(rest));
    let mut response = (json, body).into_response();
    response.extensions_mut().insert(Streamed);
    Ok(response)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Start,
    Within,
    End,
}

/// What is still to be sent of the whole view. Between two chunks it holds no row and no connection.
struct WholeView {
    workspace: Workspace,
    rhythm: Rhythm,
    after: Option<AgentId>,
    limit: usize,
    position: Position,
}

impl WholeView {
    /// Fetches and renders the next rows; called when the connection has room for them. `None` after the last.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.position == Position::End {
            return Ok(None);
        }
        let rows = fetch(&self.workspace.fresh(), self.rhythm, self.after, self.limit).await?;
        let mut text = Vec::new();
        let mut separator: &[u8] = if self.position == Position::Start { OPENING } else { b"," };
        let mut taken = 0;
        for row in &rows {
            let end = text.len();
            text.extend_from_slice(separator);
            serde_json::to_writer(&mut text, row).map_err(internal)?;
            if text.len() > CHUNK_BYTES && taken > 0 {
                text.truncate(end);
                break;
            }
            (separator, taken) = (b",", taken + 1);
            self.after = Some(row.id);
        }
        self.advance(taken, rows.len(), &mut text)?;
        text.shrink_to_fit();
        Ok(Some(text.into()))
    }

    /// Rows that did not fit are fetched again with the next chunk, so it asks for as many as fitted in this one.
    fn advance(&mut self, taken: usize, fetched: usize, text: &mut Vec<u8>) -> Result<()> {
        if taken == fetched && fetched < self.limit {
            if taken == 0 && self.position == Position::Start {
                text.extend_from_slice(OPENING);
            }
            text.extend_from_slice(b"],\"meta\":");
            let meta = Meta { page: PageMeta { limit: None, cursor: None } };
            serde_json::to_writer(&mut *text, &meta).map_err(internal)?;
            text.push(b'}');
            self.position = Position::End;
        } else {
            self.limit = if taken < fetched { taken } else { (self.limit * 2).min(MAX_ROWS) };
            self.position = Position::Within;
        }
        Ok(())
    }
}

fn internal(error: serde_json::Error) -> Error {
    Error::Internal(error.into())
}
