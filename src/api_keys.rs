//! How an API key gets its secret, and, in [`keyring`], whether what is presented is one. The slow hash is
//! computed in [`hash_pool`].

pub mod hash_pool;
pub mod keyring;

use planasonix_wire::{
    ApiKeyId,
    api_key::{CreatedApiKey, RegeneratedApiKey},
};
use tokio::task::spawn_blocking;

use self::hash_pool::{HashPool, HashWork};
use crate::{
    db::Workspace,
    domain::{
        Error, Result,
        api_key::NewKey,
        credential::{ApiKey, Plain},
    },
    entropy,
};

/// Creates an API key from the command line: no other hash competes with its own, and no caller is in a hurry.
///
/// # Errors
/// Only those of the database.
pub async fn create(workspace: &Workspace, new: NewKey) -> Result<CreatedApiKey> {
    let id = next_id(workspace).await?;
    let secret =
        spawn_blocking(move || generate(id)).await.map_err(|error| Error::Internal(error.into()))??;
    store(workspace, id, new, secret).await
}

/// Creates an API key; `pool` computes the hash of its secret.
///
/// # Errors
/// [`Error::Unavailable`] when the pool's queue is full, and those of the database.
pub async fn create_in(pool: &HashPool, workspace: &Workspace, new: NewKey) -> Result<CreatedApiKey> {
    let id = next_id(workspace).await?;
    let secret = generate_in(pool, workspace, id).await?;
    store(workspace, id, new, secret).await
}

async fn next_id(workspace: &Workspace) -> Result<ApiKeyId> {
    workspace.read("next_key_id", |mut rows| async move { rows.api_keys().next_id().await }).await
}

async fn store(workspace: &Workspace, id: ApiKeyId, new: NewKey, secret: Secret) -> Result<CreatedApiKey> {
    let (key, argon2) = secret;
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

/// Gives an API key another secret; the old one is refused from then on.
///
/// # Errors
/// [`Error::ApiKeyNotFound`], those of [`create_in`].
pub async fn regenerate_in(
    pool: &HashPool,
    workspace: &Workspace,
    id: ApiKeyId,
) -> Result<RegeneratedApiKey> {
    workspace.read("get_key", |mut rows| async move { rows.api_keys().get(id).await }).await?;
    let (key, argon2) = generate_in(pool, workspace, id).await?;
    let (stored, hash) = (&key, argon2.as_str());
    let rotated_at = workspace
        .write("regenerate_key", |mut rows| async move { rows.api_keys().replace_secret(stored, hash).await })
        .await?;
    Ok(RegeneratedApiKey { id, prefix: key.prefix(), secret: key.reveal(), rotated_at })
}

/// A new key, and its hash as a PHC string.
type Secret = (Plain<ApiKey>, String);

async fn generate_in(pool: &HashPool, workspace: &Workspace, id: ApiKeyId) -> Result<Secret> {
    let hashing = pool.run(HashWork::New, workspace.id(), move || generate(id));
    workspace.budget().bound("the hash of a new API key", hashing).await??
}

fn generate(id: ApiKeyId) -> Result<Secret> {
    let key = Plain::generate(&mut entropy::rng(), id.ulid());
    let argon2 = key.argon2(&mut entropy::rng()).map_err(|error| Error::Internal(error.into()))?;
    Ok((key, argon2))
}
