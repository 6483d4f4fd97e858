//! How an API key comes to its secret, and, in [`keyring`], whether what is presented is one. The slow hash is
//! computed off the async threads.

pub mod keyring;

use planasonix_wire::{
    ApiKeyId,
    api_key::{CreatedApiKey, RegeneratedApiKey},
};
use tokio::task::spawn_blocking;

use crate::{
    db::Workspace,
    domain::{
        Error, Result,
        api_key::NewKey,
        credential::{ApiKey, Plain},
    },
    entropy,
};

/// Makes an API key.
///
/// # Errors
/// Only those of the database.
pub async fn create(workspace: &Workspace, new: NewKey) -> Result<CreatedApiKey> {
    let id = workspace.read("next_key_id", |mut rows| async move { rows.api_keys().next_id().await }).await?;
    let (key, argon2) = generate(id).await?;
    let (stored, hash, asked) = (&key, argon2.as_str(), &new);
    let expires_at = workspace
        .write("create_key", |mut rows| async move { rows.api_keys().insert(stored, hash, asked).await })
        .await?;
    Ok(CreatedApiKey {
        id,
        name: new.name,
        prefix: key.prefix(),
        secret: key.reveal(),
        scopes: new.scopes,
        expires_at,
        created_at: id.created_at(),
    })
}

/// Gives an API key another secret; the old one is dead.
///
/// # Errors
/// [`Error::ApiKeyNotFound`], and those of the database.
pub async fn regenerate(workspace: &Workspace, id: ApiKeyId) -> Result<RegeneratedApiKey> {
    workspace.read("get_key", |mut rows| async move { rows.api_keys().get(id).await }).await?;
    let (key, argon2) = generate(id).await?;
    let (stored, hash) = (&key, argon2.as_str());
    let rotated_at = workspace
        .write("regenerate_key", |mut rows| async move { rows.api_keys().replace_secret(stored, hash).await })
        .await?;
    Ok(RegeneratedApiKey { id, prefix: key.prefix(), secret: key.reveal(), rotated_at })
}

async fn generate(id: ApiKeyId) -> Result<(Plain<ApiKey>, String)> {
    spawn_blocking(move || {
        let key = Plain::generate(&mut entropy::rng(), id.ulid());
        let argon2 = key.argon2(&mut entropy::rng()).map_err(|error| Error::Internal(error.into()))?;
        Ok((key, argon2))
    })
    .await
    .map_err(|error| Error::Internal(error.into()))?
}
