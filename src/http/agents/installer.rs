use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use planasonix_wire::{AgentId, installer::Archive};
use serde_json::json;

use crate::{
    db::events::{Entry, EventType},
    domain::{
        Error, Result,
        agent::{Platform, may_be_operated},
    },
    http::{
        App,
        auth::{Installing, InstallingOrSelf},
        error::Problem,
        extract::InstallerPath,
        partial::Wanted,
    },
    installer::Package,
};

/// The digest of the whole archive, whatever part of it an answer holds.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Download an agent's installer
///
/// An archive with the agent, scripts that install and uninstall it, its service's definition, and a
/// configuration that names this agent and this server; no secret. The same request gives the same bytes, so a
/// broken download can go on with `Range`. A replaced or expired enrollment token is refused, a used one is not.
/// 503 while the archive cannot be prepared, with the reason.
#[utoipa::path(
    get, path = "/api/agents/installer/{agentId}/{platform}", operation_id = "downloadInstaller", tag = "agents",
    security(("apiKey" = ["agents:read"]), ("enrollmentToken" = []), ("agentCredential" = [])),
    params(
        ("agentId" = AgentId, Path, description = "The agent"),
        ("platform" = Platform, Path, description = "What the agent's host runs"),
        ("Range" = Option<String>, Header, description = "One range of bytes; several are answered with the whole", example = "bytes=1048576-"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of what the range shall complete"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what is there already"),
    ),
    responses(
        (status = 200, description = "The archive: a tar.gz for Linux and macOS, a zip for Windows", content(
            (Archive = "application/gzip"), (Archive = "application/zip"),
        )),
        (status = 206, description = "The part of it that was asked for", content(
            (Archive = "application/gzip"), (Archive = "application/zip"),
        )),
        (status = 304, description = "It is still the one that `If-None-Match` names"),
    ),
)]
pub async fn download(
    InstallingOrSelf(caller): InstallingOrSelf,
    State(app): State<App>,
    path: InstallerPath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (agent, package) = find(&caller, &app, path).await.map_err(|error| caller.tell(error))?;
    let tag = format!("\"{}\"", package.sha256());
    let wanted = Wanted::of(&method, &headers, &tag, package.length());
    if wanted == Wanted::Whole && method == Method::GET {
        note(&caller, agent, package.platform()).await.map_err(|error| caller.tell(error))?;
    }
    answer(package, wanted, &tag, &caller).map_err(|error| caller.tell(error))
}

async fn find(caller: &Installing, app: &App, path: InstallerPath) -> Result<(AgentId, Package)> {
    let platform = path.platform?;
    let id = caller.agent(path.agent).await?;
    let agent =
        caller.workspace.read("installer", |mut rows| async move { rows.agents().get(id).await }).await?;
    may_be_operated(agent.status)?;
    Ok((id, app.installers.package(id, platform)?))
}

async fn note(caller: &Installing, agent: AgentId, platform: Platform) -> Result<()> {
    let (event, detail) = (EventType::InstallerDownloaded, Some(json!({"platform": platform})));
    let entry = Entry { agent, event, actor: caller.actor, reason: None, detail };
    let entry = &entry;
    caller
        .workspace
        .write("note_download", |mut rows| async move { rows.events().record_seldom(entry.clone()).await })
        .await
}

fn answer(package: Package, wanted: Wanted, tag: &str, caller: &Installing) -> Result<Response, Problem> {
    let length = package.length();
    let (status, range) = match wanted {
        Wanted::Unchanged => return described(StatusCode::NOT_MODIFIED, &package, tag),
        Wanted::Nothing => return not_there(length, caller),
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
    };
    let mut response = described(status, &package, tag)?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(package.media_type()));
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let disposition = format!("attachment; filename=\"{}\"", package.file_name());
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition)?);
    if status == StatusCode::PARTIAL_CONTENT {
        let place = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, value(&place)?);
    }
    *response.body_mut() = Body::from_stream(package.stream(range));
    Ok(response)
}

/// An answer without a body, which says what the whole is, and that only its caller may keep it.
fn described(status: StatusCode, package: &Package, tag: &str) -> Result<Response, Problem> {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value(tag)?);
    headers.insert(REPR_DIGEST, value(&format!("sha-256=:{}:", package.sha256_base64()))?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

fn not_there(length: u64, caller: &Installing) -> Result<Response, Problem> {
    let problem = Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range_not_satisfiable",
        format!("the range begins behind the end; the archive has {length} bytes"),
    );
    Ok(([(header::CONTENT_RANGE, value(&format!("bytes */{length}"))?)], caller.tell(problem))
        .into_response())
}

fn value(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|error| Error::Internal(error.into()).into())
}
