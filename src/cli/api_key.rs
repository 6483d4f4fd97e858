//! `planasonix api-key …`

use planasonix_wire::{
    api_key::{ApiKey, CreateApiKey, CreatedApiKey},
    terminal,
};
use serde_json::{Value, json};

use super::{failure::Failure, migrate::db, output, workspace::no_workspace};
use crate::{
    api_keys,
    config::ApiKeyCommand,
    db::{Budget, Db},
    domain::{api_key::NewKey, page::PageSize},
};

/// Does what is asked with API keys.
///
/// # Errors
/// The workspace or key is not there, or the database is away.
pub async fn run(command: ApiKeyCommand) -> Result<(), Failure> {
    match command {
        ApiKeyCommand::Create { workspace, name, scopes, expires_in_days, database, json } => {
            let db = db(&database).await?;
            let id = db.workspace_id(&workspace).await?.ok_or_else(|| no_workspace(&workspace))?;
            let scopes = Some(scopes.iter().map(ToString::to_string).collect());
            let asked =
                CreateApiKey { name: Some(name), scopes, expires_in_days: expires_in_days.map(i64::from) };
            let new = NewKey::try_from(asked).map_err(|invalid| Failure::new(format!("--{invalid}")))?;
            print(&api_keys::create(&db.workspace(id, Budget::default()), new).await?, json)
        }
        ApiKeyCommand::List { workspace, database, json } => {
            let rows = list(&db(&database).await?, &workspace).await?.into_iter().map(row).collect();
            output::rows(["id", "name", "prefix", "scopes", "last_used_at", "expires_at"], rows, json)
        }
        ApiKeyCommand::Revoke { id, database } => {
            if !db(&database).await?.revoke_api_key(id).await? {
                return Err(Failure::new(format!("there is no API key {id}")));
            }
            Ok(output::line(&format!("revoked {id}"))?)
        }
    }
}

async fn list(db: &Db, slug: &str) -> Result<Vec<ApiKey>, Failure> {
    let id = db.workspace_id(slug).await?.ok_or_else(|| no_workspace(slug))?;
    let door = db.workspace(id, Budget::default());
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = |mut rows: crate::db::workspace::Rows| async move {
            rows.api_keys().list(after, PageSize::DEFAULT).await
        };
        let mut page = door.fresh().read("list_keys", page).await?;
        let more = PageSize::DEFAULT.cut(&mut page);
        after = page.last().map(|key| key.id);
        keys.extend(page);
        if !more {
            return Ok(keys);
        }
    }
}

fn row(key: ApiKey) -> [Value; 6] {
    [
        json!(key.id),
        json!(key.name),
        json!(key.prefix),
        json!(key.scopes),
        json!(key.last_used_at),
        json!(key.expires_at),
    ]
}

fn print(key: &CreatedApiKey, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(key);
    }
    let name = terminal::value(&key.name);
    output::line(&format!("created API key {name} ({}); its secret is shown this once:", key.id))?;
    Ok(output::line(&key.secret)?)
}
