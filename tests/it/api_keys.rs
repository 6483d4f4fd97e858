//! The routes under `/api/user/api-keys`.

mod life;
mod records;
mod verifying;

use planasonix::domain::Scope;
use planasonix_wire::{ApiKeyId, WorkspaceId};
use serde_json::{Value, json};

use crate::support::{App, actors::Caller};

const KEYS: &str = "/api/user/api-keys";

/// A workspace with one administrator.
async fn administered(app: &App, slug: &str) -> (WorkspaceId, ApiKeyId, Caller) {
    let id = app.workspace(slug).await.id;
    let (key, admin) = app.operator(id, &[Scope::AdminOrganization]).await;
    (id, key, admin)
}

/// A new key of this scope, with its path.
async fn create(admin: &Caller, scope: &str) -> (Value, String) {
    let created = admin.post(KEYS, &json!({"name": "n", "scopes": [scope]})).await.data(201);
    let path = format!("{KEYS}/{}", created["id"].as_str().unwrap());
    (created, path)
}

fn holder(admin: &Caller, key: &Value) -> Caller {
    admin.with_token(key["secret"].as_str().unwrap())
}
