//! The routes under `/api/user/api-keys`: for administrators.

use axum::{extract::State, http::StatusCode};
use planasonix_wire::{
    ApiKeyId,
    api_key::{ApiKey, CreateApiKey, CreatedApiKey, RegeneratedApiKey},
    envelope::{Data, Page},
};

use super::{
    App,
    answer::Answer,
    auth::Admin,
    conditional::Unconditional,
    cursor::{self, Fingerprint},
    error::Problem,
    extract::{JsonBody, NoFields, OptionalBody, Params, PathId},
};
use crate::{
    api_keys,
    domain::{api_key::NewKey, invalid::Checks},
};

const MOST: u32 = 100;

/// List API keys
///
/// In creation order, without their secrets.
#[utoipa::path(
    get, path = "/api/user/api-keys", operation_id = "listApiKeys", tag = "API keys",
    security(("apiKey" = ["admin:organization"])),
    params(
        ("limit" = Option<u32>, Query, description = "How many rows a page holds at most; 50 unless given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, min_length = 1, pattern = "^[A-Za-z0-9_-]+$", description = "`meta.page.cursor` of the page before"),
    ),
    responses((status = 200, description = "One page of API keys", body = Page<ApiKey>)),
)]
pub async fn list(admin: Admin, params: Params) -> Result<Answer<Page<ApiKey>>, Problem> {
    let mut checks = Checks::default();
    let cursor = params.one(&mut checks, "cursor");
    let size = params.page_size(&mut checks, MOST);
    checks.finish()?;
    let fingerprint = Fingerprint::new("api-keys", &[]);
    let after = cursor.map(|cursor| cursor::decode(cursor, &fingerprint)).transpose()?;
    let rows = admin
        .workspace
        .read("list_keys", |mut rows| async move { rows.api_keys().list(after, size).await })
        .await?;
    Ok(Answer::page(rows, size, &fingerprint, |row| row.id)?)
}

/// Create an API key
///
/// The secret is shown here and never again.
#[utoipa::path(
    post, path = "/api/user/api-keys", operation_id = "createApiKey", tag = "API keys",
    security(("apiKey" = ["admin:organization"])),
    request_body = CreateApiKey,
    responses((
        status = 201, description = "The key, with its secret", body = Data<CreatedApiKey>,
        headers(("Location" = String, description = "Where the key is from now on")),
    )),
)]
pub async fn create(
    admin: Admin,
    _: Unconditional,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateApiKey>,
) -> Result<Answer<Data<CreatedApiKey>>, Problem> {
    let created = api_keys::create_in(app.keyring.pool(), &admin.workspace, NewKey::try_from(body)?).await?;
    let location = format!("/api/user/api-keys/{}", created.id);
    Ok(Answer::created(created, location).with_secret())
}

/// Get an API key
#[utoipa::path(
    get, path = "/api/user/api-keys/{id}", operation_id = "getApiKey", tag = "API keys",
    security(("apiKey" = ["admin:organization"])),
    params(("id" = ApiKeyId, Path, description = "The key")),
    responses((status = 200, description = "The key", body = Data<ApiKey>)),
)]
pub async fn get(admin: Admin, path: PathId<ApiKeyId>) -> Result<Answer<Data<ApiKey>>, Problem> {
    let id = path.id()?;
    let key =
        admin.workspace.read("get_key", |mut rows| async move { rows.api_keys().get(id).await }).await?;
    Ok(Answer::ok(key))
}

/// Delete an API key
///
/// The very next request with it is refused, everywhere.
#[utoipa::path(
    delete, path = "/api/user/api-keys/{id}", operation_id = "deleteApiKey", tag = "API keys",
    security(("apiKey" = ["admin:organization"])),
    params(("id" = ApiKeyId, Path, description = "The key")),
    responses((status = 204, description = "The key is gone")),
)]
pub async fn delete(admin: Admin, _: Unconditional, path: PathId<ApiKeyId>) -> Result<StatusCode, Problem> {
    let id = path.id()?;
    admin.workspace.bar("delete_key", |mut rows| async move { rows.api_keys().delete(id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an API key a new secret
///
/// The key keeps its id, name and scopes. The old secret is dead at once.
#[utoipa::path(
    post, path = "/api/user/api-keys/{id}/regenerate", operation_id = "regenerateApiKey", tag = "API keys",
    security(("apiKey" = ["admin:organization"])),
    params(("id" = ApiKeyId, Path, description = "The key")),
    responses((status = 200, description = "The key's new secret", body = Data<RegeneratedApiKey>)),
)]
pub async fn regenerate(
    admin: Admin,
    _: Unconditional,
    State(app): State<App>,
    path: PathId<ApiKeyId>,
    _: OptionalBody<NoFields>,
) -> Result<Answer<Data<RegeneratedApiKey>>, Problem> {
    let id = path.id()?;
    Ok(Answer::ok(api_keys::regenerate_in(app.keyring.pool(), &admin.workspace, id).await?).with_secret())
}
